"""A corpus' requests answered by another model: the same requests, resumable, nothing dropped uncounted."""

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from synthembed import profile
from synthembed.beyond import rewriting
from synthembed.corpus import example_files
from synthembed.generation import two_steps

GOOD = {"input": "the kettle is on", "positive_document": "water is being boiled for tea"}


class Client:
    """Answers each request in turn with one of ``replies``; an exception among them is raised."""

    def __init__(self, replies):
        self.replies, self.asked = iter(replies), []
        self.chat = SimpleNamespace(completions=self)

    def create(self, **body):
        self.asked.append(body)
        reply = next(self.replies)
        if isinstance(reply, Exception):
            raise reply
        text = json.dumps(reply)
        made = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
        return SimpleNamespace(model_dump=lambda mode: made)


@pytest.fixture
def source(tmp_path):
    """A brainstorm, which is not asked again, and three examples."""
    folder = tmp_path / "01_generate"
    folder.mkdir()
    about = {"number": 0, "family": "short-short", "task": "Match it", "language": "en", "target_language": "",
             "placeholders": []}  # fmt: skip
    items = [{"custom_id": "b", "step": "brainstorm"}, *({"custom_id": i, "step": "example"} for i in "123")]
    (folder / "items.jsonl").write_text("".join(json.dumps(i | about) + "\n" for i in items))
    lines = [
        {"custom_id": i["custom_id"], "body": {"model": "strong", "messages": [i["custom_id"]]}}
        for i in items
    ]
    (folder / "requests.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return folder


@pytest.fixture
def serve(monkeypatch):
    def replies(*several):
        client = Client(several)
        monkeypatch.setattr(rewriting, "AT_ONCE", 1)  # in order
        monkeypatch.setattr(
            rewriting.local_server, "server", lambda **how: contextlib.nullcontext("http://127.0.0.1")
        )
        monkeypatch.setattr(rewriting.endpoint, "client", lambda *a, **how: contextlib.nullcontext(client))
        return client

    return replies


def test_the_same_requests_go_to_the_base_and_what_cannot_be_used_is_counted(source, serve, tmp_path):
    import httpx
    import openai

    lost = openai.APIConnectionError(request=httpx.Request("POST", "http://127.0.0.1"))
    client = serve(GOOD, {"nothing": "of the kind"}, lost)
    run = tmp_path / "by-x"
    found = rewriting.rewrite("embedded:x", source, run, 3, profile.Analyze())
    assert [body["messages"] for body in client.asked] == [["1"], ["2"], ["3"]]
    assert {body["model"] for body in client.asked} == {"embedded:x"}
    assert found["kept"] == 1 and found["dropped"] == 2 and "no reply: APIConnectionError" in found["reasons"]
    (example,) = example_files.read(run / "02_analyze" / "examples.jsonl")
    assert (example.query, example.instruction) == (GOOD["input"], "Match it")
    again = serve(GOOD | {"input": "a door was left open"})  # only what has no reply is asked again
    found = rewriting.rewrite("embedded:x", source, run, 3, profile.Analyze())
    assert [body["messages"] for body in again.asked] == [["3"]] and found["kept"] == 2


def test_an_interrupt_ends_it_at_once_keeps_what_came_and_is_gone_on_from(
    source, serve, tmp_path, monkeypatch
):
    cancelled = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            cancelled.set()
            super().shutdown(wait=wait)

    class Held(dict):
        """The second request's body: under way until the rest is cancelled."""

        def __or__(self, other):
            cancelled.wait(20)
            return dict(self) | other

    def interrupted(*_):
        raise KeyboardInterrupt

    run, read = tmp_path / "by-x", rewriting.read_lines
    client = serve(GOOD, GOOD, GOOD)
    with monkeypatch.context() as patch:
        patch.setattr(rewriting, "ThreadPoolExecutor", Pool)
        patch.setattr(rewriting, "Progress", lambda *_: interrupted)
        patch.setattr(rewriting, "read_lines", lambda p: (
            line | {"body": Held(line["body"])} if line["custom_id"] == "2" else line for line in read(p)
        ))  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            rewriting.rewrite("embedded:x", source, run, 3, profile.Analyze())
    assert ["3"] not in [body["messages"] for body in client.asked]  # the second may have been under way
    again = serve(GOOD | {"input": "a door was left open"}, GOOD | {"input": "the lamp is lit"})
    found = rewriting.rewrite("embedded:x", source, run, 3, profile.Analyze())
    assert [body["messages"] for body in again.asked] == [["2"], ["3"]] and found["asked"] == 3


def test_examples_stand_in_the_order_of_the_requests_whoever_was_answered_first(source, serve, tmp_path):
    run = tmp_path / "by-x"
    store = run / "01_generate" / "replies.jsonl"
    store.parent.mkdir(parents=True)
    serve(*(GOOD | {"input": f"the kettle is on, number {n}"} for n in range(3)))
    alone = profile.Analyze()
    rewriting.rewrite("embedded:x", source, run, 3, alone)
    before = example_files.read(run / "02_analyze" / "examples.jsonl")
    store.write_text("".join(reversed(store.read_text().splitlines(keepends=True))))
    rewriting.rewrite("embedded:x", source, run, 3, alone)
    assert example_files.read(run / "02_analyze" / "examples.jsonl") == before and len(before) == 3


def test_requests_that_were_not_made_are_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="synthembed run --only 01_generate"):
        rewriting.rewrite("embedded:x", tmp_path, tmp_path / "run", 3, profile.Analyze())


def test_the_items_of_a_run_are_read_as_its_stage_wrote_them(source):
    assert [item.step for item in two_steps.read_items(source).values()] == ["brainstorm"] + ["example"] * 3
