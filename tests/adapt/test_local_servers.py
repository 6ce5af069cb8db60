"""Servers on one's own desk, each with the answers that its documentation and its users report: what can be read is
read, and what cannot is told with an option of the command. None of them is installed here but llama.cpp."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from synthembed import profile
from synthembed.adapt import adaptation, advice, asking, selection
from synthembed.generation.reply_store import GenerationStopped
from synthembed.ground.files import read_json, read_lines

SETTINGS = adaptation.Settings(generator="endpoint", peers=False)
PLACES = ["pier", "mill", "tower", "bridge", "chapel", "market", "school", "library", "harbour", "garden", "museum", "quarry",
          "station", "bakery"]  # fmt: skip


class Desk(ThreadingHTTPServer):
    """``models`` are listed; ``answer(body)`` gives (status, bytes or JSON)."""

    daemon_threads = True

    def __init__(self, models, answer):
        self.models, self.answer, self.bodies = models, answer, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if not isinstance(self.server.models, list | tuple):  # all of the answer
            return self.send(200, self.server.models)
        listed = [{"id": name, "object": "model", "owned_by": "library"} for name in self.server.models]
        self.send(200, {"object": "list", "data": listed})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.send(*self.server.answer(body))

    def send(self, status, reply):
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def written(body) -> str:
    """What a model could write for the passage of a request."""
    passage = body["messages"][0]["content"].partition("<passage>")[2].partition("</passage>")[0]
    place = next(place for place in PLACES if place in passage)
    return json.dumps(
        {"user_query": f"who keeps the {place}?", "hard_negative_document": f"The {place} is old."}
    )


def completion(body, finish="stop", usage=True, **message):
    told = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}],
    }  # fmt: skip
    counts = {"prompt_tokens": 400, "completion_tokens": 40, "total_tokens": 440}
    return 200, told | ({"usage": counts} if usage else {})


def refused(status, message, kind="invalid_request_error", **more):
    return status, {"error": {"message": message, "type": kind, "param": None, "code": status, **more}}


def folder_of(path):
    path.mkdir(parents=True, exist_ok=True)
    for place in PLACES:
        (path / f"{place}.txt").write_text(
            f"The {place} is kept by its neighbours, who meet there every spring."
        )
    return path


def asked(tmp_path, server, llm="", *more, say=lambda text: None):
    overrides = ["generate.max_retries=0", "generate.timeout_s=20", "generate.concurrency=4", *more]
    own = asking.pointed_at(profile.load("adapt", overrides), server.url, llm)
    return adaptation.generated(folder_of(tmp_path / "documents"), tmp_path / "out", own, SETTINGS, say)[2]


def no_schema(body):
    kind = body.get("response_format", {}).get("type", "text")
    if kind == "json_object":  # as LM Studio
        return 400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}
    if kind == "json_schema":  # as older servers of vLLM's and llama.cpp's kind
        return refused(
            400, 'response_format type must be one of "text" or "json_object", but got: json_schema'
        )
    return completion(body, content=f"Sure!\n```json\n{written(body)}\n```")


READ = {
    "ollama": lambda b: completion(b, content=written(b), reasoning="The user wants a query ..."),
    "vllm": lambda b: completion(b, content=written(b), reasoning_content="Okay, so", refusal=None, tool_calls=[]),
    "llama-server": lambda b: (200, completion(b, content=written(b), usage=False)[1] | {"timings": {"prompt_n": 4}}),
    "lm studio": lambda b: (200, completion(b, content=written(b))[1] | {"stats": {}, "system_fingerprint": "x"}),
    "blanks that keep a connection": lambda b: (200, b"\n \n\n" + json.dumps(completion(b, content=written(b))[1]).encode()),
    "thoughts in the text": lambda b: completion(b, content=f"<think>Which {{\"user_query\": ...}}?</think>\n\n{written(b)}"),
    "a list of parts": lambda b: completion(b, content=[{"type": "text", "text": written(b)}]),
}  # fmt: skip


@pytest.mark.parametrize("server", READ)
def test_replies_of_each_server_are_read(tmp_path, server):
    desk, said = Desk(["some-model"], READ[server]), []
    got = asked(tmp_path, desk, say=said.append)
    assert len(got.examples) == len(PLACES) and not got.failures and not got.drops.counts
    assert all(example.query.startswith("who keeps the") for example in got.examples)
    assert "nothing of the documents leaves this machine" in " ".join(said)
    assert {body["model"] for body in desk.bodies} == {"some-model"}
    assert read_json(tmp_path / "out" / "usage.json")["spent_usd"] == 0
    assert (
        asked(tmp_path, Desk(["some-model"], no_schema)).new == 0
    )  # what is stored is asked of nobody again


THOUGHTS = {"content": "", "reasoning": "The passage speaks of a pier, so a query could be"}
CONTEXT = {
    "llama-server": refused(
        400, "request (3024 tokens) exceeds the available context size (2048 tokens), try increasing it",
        "exceed_context_size_error", n_prompt_tokens=3024, n_ctx=2048,
    ),
    "vllm": refused(400, "This model's maximum context length is 1024 tokens. However, you requested 1500 tokens", "BadRequestError"),
    "older vllm": (400, {"object": "error", "message": "max_tokens must be at least 1, got -186.", "type": "BadRequestError", "param": None, "code": 400}),
}  # fmt: skip
MISSING = {
    "ollama": refused(404, 'model "mine" not found, try pulling it first', "not_found_error"),
    "vllm": refused(404, "The model `mine` does not exist.", "NotFoundError"),
    "older vllm": (404, {"object": "error", "message": "The model `mine` does not exist.", "type": "NotFoundError", "param": None, "code": 404}),
    "lm studio": (404, {"error": {"message": "No models loaded. Please load a model in the developer page or use the 'lms load' command.",
                                  "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}),
}  # fmt: skip


@pytest.mark.parametrize("server", MISSING)
def test_a_model_that_is_not_there_is_told_with_those_that_are(tmp_path, server):
    desk = Desk(
        ["gemma3:12b", "text-embedding-nomic-embed-text-v1.5", "qwen3:8b"], lambda body: MISSING[server]
    )
    with pytest.raises(GenerationStopped) as told:
        asked(tmp_path, desk, "mine")
    assert str(told.value).endswith("--llm with the name of a model that it has: gemma3:12b, qwen3:8b")
    assert "mine" in str(told.value) and len(desk.bodies) <= 4


@pytest.mark.parametrize("server", CONTEXT)
def test_a_context_that_is_too_short_is_told_with_where_it_is_set(tmp_path, server):
    with pytest.raises(
        GenerationStopped, match=r"refused with HTTP 400(.|\n)*llama-server -c(.|\n)*--words 60"
    ):
        asked(tmp_path, Desk(["m"], lambda body: CONTEXT[server]))


def test_a_format_that_is_refused_is_told_and_another_is_taken(tmp_path):
    desk = Desk(["m"], no_schema)
    for kind in ("json_schema", "json_object"):
        with pytest.raises(GenerationStopped, match=r"--set generate\.response_format=text"):
            asked(tmp_path, desk, "", f"generate.response_format={kind}")
    got = asked(tmp_path, desk, "", "generate.response_format=text")
    assert len(got.examples) == len(PLACES) and not got.drops.counts


@pytest.mark.parametrize("message", [THOUGHTS, {"content": None, "reasoning_content": "Okay, so the user"},
                                     {"content": "<think>Okay, the user wants"}])  # fmt: skip
def test_a_model_that_only_thinks_is_told_how_not_to(tmp_path, message):
    def thinks(body):
        quiet = body.get("reasoning_effort") == "none" or body.get("chat_template_kwargs") == {
            "enable_thinking": False
        }
        return completion(body, content=written(body)) if quiet else completion(body, "length", **message)

    desk = Desk(["qwen3:8b"], thinks)
    with pytest.raises(
        GenerationStopped, match=r"max_tokens=4096(.|\n)*reasoning_effort=none(.|\n)*enable_thinking: false"
    ):
        asked(tmp_path, desk)
    for way in (
        "generate.reasoning_effort=none",
        "generate.extra_body={chat_template_kwargs: {enable_thinking: false}}",
    ):
        assert len(asked(tmp_path / way[9:14], desk, "", way).examples) == len(PLACES)


def test_a_server_that_is_loading_and_an_error_inside_a_stream(tmp_path, capsys):
    loading = Desk(["m"], lambda body: refused(503, "Loading model", "unavailable_error"))
    with pytest.raises(GenerationStopped, match=r"Loading model(.|\n)*run again when it has"):
        asked(tmp_path, loading)
    piece = {"error": {"message": "CUDA out of memory", "type": "server_error"}}
    broken = Desk(["m"], lambda body: (200, f"data: {json.dumps(piece)}\n\n".encode()))
    with pytest.raises(GenerationStopped, match="CUDA out of memory"):
        asked(tmp_path, broken)
    assert "not a chat completion" in capsys.readouterr().out


UNUSABLE = {  # what is written for a passage, the n-th, and the reason
    "another language": (lambda n: (f"who keeps the old building of number {n} in this town?", "It is old."), selection.STRAYS),
    "refusals": (lambda n: ("Es tut mir leid, dabei kann ich nicht helfen.", f"Nummer {n}"), "refusal phrase"),
    "always the same": (lambda n: ("Worum geht es?", f"Nummer {n} ist alt."), selection.REPEATED),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNUSABLE)
def test_replies_that_no_filter_would_let_pass_end_it_before_all_are_paid(tmp_path, kind):
    write, reason = UNUSABLE[kind]
    (tmp_path / "documents").mkdir()
    for n in range(60):
        text = f"Das Haus Nummer {n} wird von seinen Nachbarn gepflegt, die sich dort jedes Frühjahr treffen. Im Winter bleibt es wegen der Kälte geschlossen."
        (tmp_path / "documents" / f"{n}.txt").write_text(text)

    def answer(body):
        query, negative = write(len(server.bodies))
        return completion(body, content=json.dumps({"user_query": query, "hard_negative_document": negative}))

    server = Desk(["small"], answer)
    own = asking.pointed_at(profile.load("adapt", ["generate.concurrency=1"]), server.url, "small")
    with pytest.raises(
        GenerationStopped, match=rf"none of the first 20 .*{reason}(.|\n)*What to try: another --llm"
    ):
        adaptation.generated(tmp_path / "documents", tmp_path / "out", own, SETTINGS, lambda text: None)
    assert len(server.bodies) < 40


def test_some_passages_that_are_too_long_for_a_server_are_counted_and_the_rest_is_used(tmp_path, capsys):
    def answer(body):
        return (
            CONTEXT["llama-server"]
            if "quarry" in body["messages"][0]["content"]
            else completion(body, content=written(body))
        )

    got = asked(tmp_path, Desk(["m"], answer), "", "generate.failures_at_most=0.2")
    assert got.failures == {"HTTP 400": 1} and len(got.examples) == len(PLACES) - 1
    assert "available context size (2048 tokens)" in capsys.readouterr().out
    assert len(list(read_lines(tmp_path / "out" / "replies.jsonl"))) == len(PLACES) - 1


def test_the_only_model_that_can_write_needs_no_name():
    def listed(*names):
        return advice.models_of(asking.pointed_at(profile.load("adapt"), Desk(names, None).url, "x"))

    assert listed("gemma3:12b", "nomic-embed-text:latest", "bge-reranker-v2") == ["gemma3:12b"]
    assert listed("nomic-embed-text") == ["nomic-embed-text"]
    assert asking.pointed_at(
        profile.load("adapt"), Desk(["a", "mxbai-embed-large"], None).url
    ).generate.models == {"a": 1.0}


LISTED = {
    "a list without a key": b'[{"id": "m", "object": "model"}, {"id": "an-embedder"}]',
    "under another key": {"models": [{"name": "m", "size": 4}]},
    "names alone": {"object": "list", "data": ["m", None, {"id": None}, 7]},
}  # fmt: skip
NOT_LISTED = {
    "a page": (b"<!doctype html><title>A page for every path</title>", "not JSON(.|\n)*base URL"),
    "nothing": (b"", "not JSON"),
    "an error": ({"error": {"message": "no access to models"}}, "no access to models"),
    "null": ({"object": "list", "data": None}, "0 models"),
    "a number": (b"3", "0 models"),
}


@pytest.mark.parametrize("kind", LISTED)
def test_a_list_of_models_is_read_in_every_form(kind):
    assert asking.pointed_at(profile.load("adapt"), Desk(LISTED[kind], None).url).generate.models == {
        "m": 1.0
    }


@pytest.mark.parametrize("kind", NOT_LISTED)
def test_what_is_no_list_of_models_is_told(kind):
    listed, told = NOT_LISTED[kind]
    url = Desk(listed, None).url
    with pytest.raises(GenerationStopped, match=told):
        asking.pointed_at(profile.load("adapt"), url)
    named = asking.pointed_at(profile.load("adapt"), url, "m")  # who names one needs no list
    assert advice.on("the model was not found", named).endswith("--llm NAME")


def test_what_to_try_answers_what_was_said_and_not_our_own_words(tmp_path):
    with pytest.raises(GenerationStopped) as told:
        asked(tmp_path, Desk(["m"], lambda body: refused(403, "your address is blocked")), "m")
    assert "your address is blocked" in str(told.value) and "What to try" not in str(told.value)
    with pytest.raises(GenerationStopped, match="base URL to --endpoint"):
        asked(tmp_path / "page", Desk(["m"], lambda body: (200, b"<!doctype html>")), "m")


def test_no_control_sign_comes_into_a_query(tmp_path):
    """A reply may have any sign that JSON can write."""
    found = asked(tmp_path, Desk(["m"], lambda body: completion(body, content=written(body).replace("who", "who\\u0000\\u0007").replace("old", "o\\u001bld"))))  # fmt: skip
    assert {example.query for example in found.examples} == {f"who keeps the {place}?" for place in PLACES}
    assert all(example.negative.endswith("is o ld.") for example in found.examples)


def test_nothing_is_made_up_for_words_that_nobody_knows():
    assert advice.on("the moon is full", profile.load("adapt")) == ""
