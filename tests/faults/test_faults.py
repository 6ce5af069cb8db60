"""Generation against a real server that misbehaves on purpose, and runs killed with SIGKILL."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import pytest
from endpoints import BatchApi, BatchHandler, Endpoint, answer, batched, error, live, requested, stored
from synthembed.corpus import example, example_files
from synthembed.generation import two_steps
from synthembed.generation.reply_store import GenerationStopped, ReplyStore


@pytest.mark.parametrize("header", [{"Retry-After": "0.05"}, {}])
def test_429_is_waited_out_by_the_sdk(tmp_path, header):
    """Every request is refused once, with and without Retry-After, and then answered."""

    def script(body, number):
        if server.asked[body["seed"]] == 1:
            return (*error(429, "rate_limit_exceeded"), header)

    server = Endpoint(script)
    p = live(server.url, "generate.max_retries=2", "generate.examples=4")
    assert two_steps.generate(p, tmp_path)["failures"] == {}
    assert set(stored(tmp_path)) == requested(tmp_path)
    assert set(server.asked.values()) == {2}


def hang(body, number):
    if number % 7 == 3:
        time.sleep(3)


def reset(body, number):
    if number % 7 == 3:
        return "reset", None


@pytest.mark.parametrize(("script", "reason"), [(hang, "timeout"), (reset, "connection")])
def test_hangs_and_resets_are_counted_and_asked_again(tmp_path, script, reason):
    server = Endpoint(script)
    first = two_steps.generate(live(server.url, "generate.timeout_s=1"), tmp_path)["failures"]
    assert first[reason] >= 1 and set(first) <= {reason, "no brainstormed task"}
    server.script = lambda body, number: None
    assert two_steps.generate(live(server.url), tmp_path)["failures"] == {}
    assert sorted(stored(tmp_path)) == sorted(requested(tmp_path))


UNUSABLE = {
    "not JSON": {"content": "Sure! {"},
    "not the schema": {"content": '{"S1": "a", "other": "b"}'},
    "refusal": {"content": None, "refusal": "I cannot help with that"},
    "cut off at max_tokens": {"content": '{"S1": "a'},
    "empty reply": {"content": ""},
}


@pytest.mark.parametrize("reason", list(UNUSABLE))
def test_unusable_replies_are_paid_stored_once_and_counted_when_read(tmp_path, reason):
    def script(body, number):
        reply = answer(body)
        if body["seed"] % 2:
            finish = "length" if reason.startswith("cut off") else "stop"
            reply["choices"][0] |= {
                "message": {"role": "assistant"} | UNUSABLE[reason],
                "finish_reason": finish,
            }
        return 200, reply

    server = Endpoint(script)
    p = live(server.url, "generate.families={sts: 1}")
    for _ in range(2):
        assert two_steps.generate(p, tmp_path)["failures"] == {}
    assert set(server.asked.values()) == {1} and set(stored(tmp_path)) == requested(tmp_path)
    drops = example.Drops()
    kept = list(example_files.from_replies(tmp_path / "replies.jsonl", two_steps.read_items(tmp_path), drops))
    odd = sum(seed % 2 for seed in server.asked)
    assert dict(drops.counts) == {reason: odd} and len(kept) == len(server.asked) - odd


def test_requests_that_no_endpoint_takes_stop_the_run_unless_few_are_left(tmp_path):
    server = Endpoint(lambda body, number: error(400, "x", "no such parameter"))
    with pytest.raises(GenerationStopped, match=r"first 10 requests were all refused with HTTP 400"):
        two_steps.generate(live(server.url, "generate.families={sts: 1}", "generate.concurrency=1"), tmp_path)
    assert sum(server.asked.values()) == 10
    server.script = lambda body, number: error(400, "x") if body["seed"] % 2 else None
    for _ in range(2):  # the second time, all that is asked is refused
        left = two_steps.generate(live(server.url, "generate.families={sts: 1}"), tmp_path)["failures"]
        assert left == {"HTTP 400": len(requested(tmp_path)) - len(stored(tmp_path))}


def test_the_budget_stops_the_run_and_a_larger_one_goes_on(tmp_path):
    def script(body, number):
        reply = answer(body)
        reply["usage"] = {"prompt_tokens": 0, "completion_tokens": 100_000}  # 1 USD each by gpt-4o's price
        return 200, reply

    server = Endpoint(script)
    more = ["generate.models={gpt-4o: 1}", "generate.concurrency=2"]
    with pytest.raises(GenerationStopped, match=r"budget_usd = 12\.0 is used up"):
        two_steps.generate(live(server.url, *more, "generate.budget_usd=12"), tmp_path)
    spent = json.loads((tmp_path / "usage.json").read_text())["spent_usd"]
    assert 12 <= spent <= 14 and len(stored(tmp_path)) == spent
    two_steps.generate(live(server.url, *more, "generate.budget_usd=1000"), tmp_path)
    assert set(server.asked.values()) == {1} and set(stored(tmp_path)) == requested(tmp_path)


def test_a_budget_without_a_price_is_refused_before_anything_is_asked(tmp_path):
    server = Endpoint()
    with pytest.raises(ValueError, match="claude has no price: set it, as in "):
        two_steps.generate(live(server.url, "generate.budget_usd=5"), tmp_path)
    assert not server.asked


def test_requests_per_minute_are_kept(tmp_path):
    """34 requests at 240 a minute: the first four at once, then four a second."""
    server, times = Endpoint(), []
    server.script = lambda body, number: times.append(time.monotonic())
    two_steps.generate(live(server.url, "generate.requests_per_minute=240"), tmp_path)
    step_2 = sorted(times)[-25:]
    assert len(times) == sum(server.asked.values()) and step_2[-1] - step_2[0] >= 24 / 4 * 0.9 - 1


# Imports once and forks a run for every line that it reads; tells its process id, then that it ended.
FORKS_RUNS = """
import os, sys
from pathlib import Path
import synthembed.generation.live
from endpoints import live
from synthembed.generation import two_steps
for _ in sys.stdin:
    if not (child := os.fork()):
        two_steps.generate(live(sys.argv[1], "generate.examples=1000", "generate.concurrency=4"), Path(sys.argv[2]))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_killed_at_random_moments_loses_and_repeats_nothing(tmp_path):
    server = Endpoint(lambda body, number: time.sleep(0.05))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = subprocess.Popen(
        [sys.executable, "-c", FORKS_RUNS, server.url, str(tmp_path)], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1,
    )  # fmt: skip
    rng, stored_seeds = random.Random(3), set()
    for kill in range(1, 21):
        before, asked = Counter(server.asked), sum(server.asked.values())
        runs.stdin.write("run\n")
        child = int(runs.stdout.readline())
        while sum(server.asked.values()) == asked and runs.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.4))
        os.kill(child, signal.SIGKILL)  # fails if the run was over before
        assert runs.stdout.readline() == "ended\n"
        time.sleep(0.1)  # the server notices
        again = {seed for seed in stored_seeds if server.asked[seed] > before[seed]}
        assert not again, "a stored request was asked for again"
        store = ReplyStore(tmp_path / "replies.jsonl")  # repairs a torn last line
        store.close()
        assert len(stored(tmp_path)) == len(store.ids)
        # All but the four in flight at each kill is there: the server's finished replies were stored.
        assert sum(server.asked.values()) - len(store.ids) <= 4 * kill
        seeds = {x["custom_id"]: x["body"]["seed"] for x in store_lines(tmp_path / "requests.jsonl")}
        stored_seeds = {seeds[i] for i in store.ids if i in seeds}
    runs.stdin.close()
    assert runs.wait() == 0
    server.script = lambda body, number: None
    two_steps.generate(live(server.url, "generate.examples=1000"), tmp_path)
    ids = stored(tmp_path)
    assert len(ids) == len(set(ids)) and set(ids) == requested(tmp_path)


def store_lines(path):
    """The whole lines of a file whose writer was killed."""
    for line in path.read_bytes().split(b"\n"):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def test_batches_are_submitted_by_model_and_collected_once(tmp_path):
    api = BatchApi()
    usage = two_steps.generate(batched(api.url), tmp_path)
    assert usage["failures"] == {} and set(stored(tmp_path)) == requested(tmp_path)
    assert set(api.asked.values()) == {1} and set(usage["models"]) == {"a", "b"}
    for batch in api.batches:
        lines = map(json.loads, api.files[batch["input_file_id"]].splitlines())
        assert len({x["body"]["model"] for x in lines}) == 1
    before = len(api.batches)
    two_steps.generate(batched(api.url), tmp_path)
    assert len(api.batches) == before


@pytest.mark.parametrize("fate", ["error", "dropped", "unknown"])
def test_only_what_failed_is_submitted_again(tmp_path, fate):
    """A batch that is "completed" with only an error file, one that expired, one with strange ids."""
    api = BatchApi(lambda number, line: fate if api.asked[line["custom_id"]] == 1 else "ok")
    api.expire = set(range(0, 20, 2)) if fate == "dropped" else set()
    # A line for each example, lost and counted.
    strays = {"unknown custom_id": 30} if fate == "unknown" else {}
    assert two_steps.generate(batched(api.url), tmp_path)["failures"] == strays
    assert set(stored(tmp_path)) == requested(tmp_path)
    assert set(api.asked.values()) == {2}


def test_what_never_succeeds_is_counted_by_name_after_three_rounds(tmp_path):
    bad: set[str] = set()

    def fate(number, line):
        if line["custom_id"] in bad or (
            len(bad) < 3 and "tasks" not in json.dumps(line["body"]["response_format"])
        ):
            bad.add(line["custom_id"])
            return "error"
        return "ok"

    api = BatchApi(fate)
    usage = two_steps.generate(batched(api.url), tmp_path)
    assert usage["failures"] == {"HTTP 500": 3}
    assert requested(tmp_path) - set(stored(tmp_path)) == bad
    assert all(api.asked[i] == (3 if i in bad else 1) for i in api.asked)


def test_a_run_killed_while_waiting_submits_nothing_twice(tmp_path):
    api = BatchApi()

    from synthembed.generation import openai_batch as batches

    original = batches._Round.collect
    calls = []

    def collect(round_):
        calls.append(len(round_.state.open()))
        if len(calls) == 2:  # after the first submission
            raise KeyboardInterrupt
        return original(round_)

    batches._Round.collect = collect
    try:
        with pytest.raises(KeyboardInterrupt):
            two_steps.generate(batched(api.url), tmp_path)
    finally:
        batches._Round.collect = original
    state = tmp_path / "batches" / "state.json"
    records = json.loads(state.read_text())
    records[-1]["batch"] = None  # as if killed between creating a batch and noting its id
    state.write_text(json.dumps(records))
    assert two_steps.generate(batched(api.url), tmp_path)["failures"] == {}
    assert set(api.asked.values()) == {1} and set(stored(tmp_path)) == requested(tmp_path)


def test_a_full_queue_is_waited_out(tmp_path):
    """Step 2 makes two batches; the second is refused until the first is done."""
    api = BatchApi()
    api.full = {2}
    assert two_steps.generate(batched(api.url), tmp_path)["failures"] == {}
    assert [b["status"] for b in api.batches] == ["completed", "completed", "failed", "completed"]
    assert set(stored(tmp_path)) == requested(tmp_path)
    assert set(api.asked.values()) == {1}


def test_a_queue_that_stays_full_ends_with_a_named_count(tmp_path):
    api = BatchApi()
    api.full = set(range(100))
    failures = two_steps.generate(batched(api.url), tmp_path)["failures"]
    refused = failures["batch token_limit_exceeded without an answer"]
    unsent = failures["not submitted: the account's queue stayed full"]
    assert (
        min(refused, unsent) > 0 and refused + unsent == len(requested(tmp_path)) and stored(tmp_path) == []
    )


def test_a_cancelled_batch_is_collected_and_nothing_is_submitted_in_its_place(tmp_path):
    api = BatchApi(lambda number, line: "ok" if line["body"]["seed"] % 2 else "dropped")
    api.cancel = {0}
    with pytest.raises(GenerationStopped, match="batch-0 was cancelled: run again to submit"):
        two_steps.generate(batched(api.url, "generate.families={sts: 1}", "generate.models={a: 1}"), tmp_path)
    assert len(api.batches) == 1 and 0 < len(stored(tmp_path)) < len(requested(tmp_path))


def test_a_file_that_is_still_read_is_waited_for(tmp_path):
    api = BatchApi()
    api.unready = 2  # as Azure: pending at first
    assert two_steps.generate(batched(api.url), tmp_path)["failures"] == {}
    assert set(stored(tmp_path)) == requested(tmp_path)


def test_a_download_that_breaks_off_is_made_again(tmp_path):
    api = BatchApi()
    api.cut = {"none yet"}
    assert two_steps.generate(batched(api.url), tmp_path)["failures"] == {}
    assert set(stored(tmp_path)) == requested(tmp_path) and set(api.asked.values()) == {1}
    assert len(api.cut) > 1


def test_batches_of_another_endpoint_are_named(tmp_path):
    api = BatchApi()
    two_steps.generate(batched(api.url), tmp_path)
    state = tmp_path / "batches" / "state.json"
    records = json.loads(state.read_text())
    records[0] |= {"batch": "batch-999", "collected": False}
    state.write_text(json.dumps(records))
    (tmp_path / "replies.jsonl").write_text("")
    with pytest.raises(GenerationStopped, match=r"knows no batch batch-999: set generate\.base_url"):
        two_steps.generate(batched(api.url), tmp_path)


def test_a_wrong_key_stops_batches_at_once(tmp_path):
    server = Endpoint(lambda body, number: None)

    class Refuses(BatchHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server.RequestHandlerClass = Refuses
    with pytest.raises(GenerationStopped, match="the endpoint refused the key"):
        two_steps.generate(batched(server.url), tmp_path)


def test_nothing_listens(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    usage = two_steps.generate(live(f"http://127.0.0.1:{port}/v1"), tmp_path)
    assert usage["failures"]["connection"] >= 1 and stored(tmp_path) == []
