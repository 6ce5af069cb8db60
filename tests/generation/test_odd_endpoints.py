"""Endpoints that refuse, stall, stream or count in ways of their own: nothing is lost, shown or asked for ever."""

import json
import time

import endpoints
import openai
import pytest
from endpoints import BatchApi, Endpoint, answer, batched, error, live, requested, stored
from synthembed import profile
from synthembed.generation import cost, two_steps
from synthembed.generation.paid import endpoint, ledger, streamed
from synthembed.generation.reply_store import GenerationStopped

STS = ["generate.families={sts: 1}", "generate.models={gpt-4o: 1}", "generate.no_budget=true"]


def pieces_of(whole: dict, *contents, index: int | None = 0) -> list[dict]:
    told = [{"choices": [{"index": index, "delta": {"content": content}}]} for content in contents]
    end = {"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}
    return [*told, end, {"choices": [], "usage": whole["usage"], "model": whole["model"]}]


def stream(pieces: list[dict], before: str = "") -> bytes:
    return (before + "".join(f"data: {json.dumps(p)}\n\n" for p in pieces) + "data: [DONE]\n\n").encode()


def test_a_gateway_that_streams_unasked_is_read(tmp_path):
    def script(body, number):
        whole = answer(body)
        text = whole["choices"][0]["message"]["content"]
        return 200, stream(pieces_of(whole, text[:7], text[7:]), before="id: 1\nretry: 5\n")

    usage = two_steps.generate(live(Endpoint(script).url, *STS), tmp_path)
    assert usage["failures"] == {} == usage["unusable"] and set(stored(tmp_path)) == requested(tmp_path)


@pytest.mark.parametrize(
    ("pieces", "content"),
    [
        ([{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "x"}}], "a"),
        ([{"delta": {"content": [{"type": "thinking", "thinking": []}]}}, {"delta": {"content": "b"}}],
         [{"type": "thinking", "thinking": []}, "b"]),
        ([{"delta": {"content": None}}, {"delta": {"content": 7}}, {"delta": 5}, {"delta": {"content": "c"}}], "c"),
    ],
)  # fmt: skip
def test_a_stream_is_its_first_choice_with_its_parts(pieces, content):
    told = [{"choices": [piece]} for piece in pieces] + [
        {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    ]
    found = json.loads(streamed.joined(b"\xef\xbb\xbf" + stream(told)))
    assert found["choices"][0]["message"]["content"] == content


def test_a_streamed_call_of_a_tool_is_kept_and_read(tmp_path):
    def script(body, number):
        whole = answer(body)
        text = whole["choices"][0]["message"]["content"]
        told = [{"tool_calls": [{"index": 0, "function": {"arguments": a}}]} for a in (text[:7], text[7:])]
        return 200, stream([{"choices": [{"delta": d}]} for d in told] + pieces_of(whole, None))

    usage = two_steps.generate(live(Endpoint(script).url, *STS, "generate.stream=true"), tmp_path)
    assert usage["failures"] == {} == usage["unusable"] and set(stored(tmp_path)) == requested(tmp_path)


def test_a_prompt_that_a_gateway_flags_is_counted_and_ends_nothing(tmp_path):
    server = Endpoint(
        lambda body, n: error(403, "x", "your input was flagged") if body["seed"] % 7 == 0 else None
    )
    for _ in range(2):
        usage = two_steps.generate(live(server.url, *STS, "generate.concurrency=1"), tmp_path)
        assert usage["failures"] == {"HTTP 403": len(requested(tmp_path)) - len(stored(tmp_path))}
    server = Endpoint(lambda body, number: error(403, "x", "no access"))
    with pytest.raises(
        GenerationStopped, match=r"first 10 requests were all refused with HTTP 403.*Check the key"
    ):
        two_steps.generate(live(server.url, *STS, "generate.concurrency=1"), tmp_path / "other")


@pytest.mark.parametrize(
    "written", ["a-very-secret-word", "GATEWAY=a-very-secret-word", "Bearer a-very-secret-word\n"]
)
def test_no_message_repeats_a_key_whatever_its_variable_is_called(tmp_path, monkeypatch, written):
    monkeypatch.setenv("GATEWAY", written)
    server = Endpoint(lambda body, number: error(401, "x", "wrong key: a-very-secret-word"))
    with pytest.raises(GenerationStopped, match=r"refused the key: .*wrong key: \*\*\*$"):
        two_steps.generate(live(server.url, *STS, "generate.key_variable=GATEWAY"), tmp_path)


def test_what_an_endpoint_says_of_failures_is_shown(tmp_path, capsys):
    server = Endpoint(lambda body, number: (200, {"error": {"message": "upstream overloaded"}}))
    two_steps.generate(live(server.url, *STS), tmp_path)
    assert "body is not a chat completion: 30 requests; one was told: " in (out := capsys.readouterr().out)
    assert "upstream overloaded" in out


def test_thoughts_that_only_the_total_counts_are_paid():
    thought = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    assert cost.tokens_in(thought) == (10, 105)
    assert (
        cost.tokens_in(thought | {"total_tokens": 15})
        == cost.tokens_in(thought | {"total_tokens": None})
        == (10, 5)
    )


def test_a_prompt_of_another_script_costs_a_token_for_each_byte_at_most():
    meter = cost.Meter(None, {"gpt-4o": 1.0}, False)
    line = {"body": {"model": "gpt-4o", "max_tokens": 1, "messages": [{"role": "user", "content": ""}]}}
    empty = meter.worst(line)
    for text, tokens in (("a" * 1000, 500), ("ကို" * 100, 900)):
        line["body"]["messages"][0]["content"] = text
        assert meter.worst(line) - empty == pytest.approx(cost.price("gpt-4o", tokens, 0, False))


def test_a_reply_that_drips_for_ever_is_given_up_and_counted_as_paid(tmp_path, monkeypatch):
    class Drips(endpoints.Handler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(100):
                try:
                    self.wfile.write(b" ")
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(0.1)

    monkeypatch.setattr(endpoint, "SLOWEST", 2)
    server = Endpoint()
    server.RequestHandlerClass = Drips
    more = ["generate.examples=2", "generate.timeout_s=0.4", "generate.max_retries=3"]
    usage = two_steps.generate(live(server.url, *STS, *more), tmp_path)
    assert usage["failures"] == {"timeout": 2} and usage["unconfirmed_usd"] > 0


def refusing(status: int) -> BatchApi:
    """A Batch API whose every request is refused; ``create`` can be put back."""
    api = BatchApi()
    api.works = api.create

    def create(file_id: str) -> dict:
        told = {"status_code": status, "body": {"error": {"message": "no such deployment"}}}
        rows = [
            {"custom_id": json.loads(line)["custom_id"], "error": None, "response": told}
            for line in api.files[file_id].splitlines()
        ]
        name = f"file-{len(api.files)}"
        api.files[name] = "".join(json.dumps(row) + "\n" for row in rows)
        return api.add(file_id, "completed", 0, len(rows), error_file_id=name)

    api.create = create
    return api


@pytest.mark.parametrize("status", [401, 403, 404])
def test_batch_requests_refused_for_the_account_are_asked_again(tmp_path, capsys, status):
    api = refusing(status)
    p = batched(api.url, *STS[:1], "generate.models={a: 1}")
    assert two_steps.generate(p, tmp_path)["failures"] == {f"HTTP {status}": 30}
    assert "no such deployment" in capsys.readouterr().out
    api.create = api.works
    assert two_steps.generate(p, tmp_path)["failures"] == {} and set(stored(tmp_path)) == requested(tmp_path)


def test_a_batch_that_brings_refusals_alone_stops_the_run_and_is_not_remembered(tmp_path):
    api = refusing(400)
    p = batched(api.url, *STS[:1], "generate.models={a: 1}")
    with pytest.raises(
        GenerationStopped, match=r"all requests of batch batch-0 were refused \(HTTP 400: .*no such"
    ):
        two_steps.generate(p, tmp_path)
    api.create = api.works
    assert two_steps.generate(p, tmp_path)["failures"] == {}


def test_some_requests_refused_for_good_are_said_and_can_be_asked_again(tmp_path, capsys):
    api = BatchApi(lambda number, line: "refused" if line["body"]["seed"] % 4 == 0 else "ok")
    p = batched(api.url, *STS[:1], "generate.models={a: 1}")
    refused = two_steps.generate(p, tmp_path)["failures"]["HTTP 400"]
    assert f"{refused} requests were refused for good" in capsys.readouterr().out
    api.fate = lambda number, line: "ok"
    assert two_steps.generate(p, tmp_path)["failures"] == {"HTTP 400": refused}
    (tmp_path / "batches" / "refused.json").unlink()
    assert two_steps.generate(p, tmp_path)["failures"] == {}


def test_an_endpoint_without_batches_is_told_so(tmp_path):
    class Nowhere(endpoints.Handler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(404)

    server = Endpoint()
    server.RequestHandlerClass = Nowhere
    with pytest.raises(GenerationStopped, match=r"has no Batch API .*generate\.backend=live"):
        two_steps.generate(batched(server.url, *STS[:1], "generate.models={a: 1}"), tmp_path)


def test_a_batch_whose_connection_fails_says_why(tmp_path):
    server = Endpoint()
    server.shutdown()
    server.server_close()
    with pytest.raises(GenerationStopped, match=r"the endpoint failed \(Connection error\. \(.+\)\); run"):
        two_steps.generate(batched(server.url, *STS[:1], "generate.models={a: 1}"), tmp_path)


def test_a_certificate_that_is_not_known_comes_with_its_remedy():
    error = openai.APIConnectionError(request=None)
    error.__cause__ = OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert "self-signed certificate): name the certificates" in endpoint.broken(error)
    error.__cause__ = OSError("refused")
    assert endpoint.broken(error) == "Connection error. (refused)"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("batches/state.json", b"", r"batches/state.json is damaged .*bought twice"),
        ("ledger/again.json", b"{", r"ledger/again.json is damaged .*delete it"),
        ("ledger/asked.json", b"\0\0", r"ledger/asked.json is damaged"),
        ("replies.jsonl", b'{"custom_id": "a", "response": null, "error": {}}\n', r"replies.jsonl, line 1: custom_id 'a'"),
        ("replies.jsonl", b'{"response": {"body": {}}}\n', r"replies.jsonl, line 1: custom_id None with no reply"),
    ],
)  # fmt: skip
def test_a_damaged_file_of_ours_is_named_with_the_remedy(tmp_path, name, content, told):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GenerationStopped, match=told):
        two_steps.generate(batched(BatchApi().url, *STS[:1], "generate.models={a: 1}"), tmp_path)


def test_a_ledger_is_read_past_what_is_no_entry(tmp_path):
    (tmp_path / "sent.jsonl").write_bytes(
        b'[1, "a", 0.5]\n\0\0\n5\n{"a": 1}\n[0, "before"]\n[1, "b", "x"]\n[1, "c"'
    )
    assert ledger.unconfirmed(tmp_path) == 0.5


@pytest.mark.parametrize("written", [None, "", "  ", '""'])
def test_an_empty_base_url_is_none(written, monkeypatch):
    """The SDK would take it for an address, and ask nowhere."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-this-test")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    if written is not None:
        monkeypatch.setenv("OPENAI_BASE_URL", written)
    for own in (None, "", " "):
        chosen = profile.load("laptop", ["generate.backend=live"]).with_overrides({"generate.base_url": own})
        assert endpoint.url_of(chosen.generate) is None and not endpoint.on_this_machine(chosen.generate)
        for make in (endpoint.client, endpoint.async_client):
            assert str(make(chosen.generate).base_url) == "https://api.openai.com/v1/"


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"error": "no such key here"}, r"refused the key: .*401 - no such key here"),
        (401, b"no such\n key here", r"refused the key: .*401 - no such key here"),
        (402, {"error": "top up first"}, r"the quota is used up; .*402 - top up first"),
        (429, {"error": "insufficient_quota"}, r"the quota is used up; .*429 - insufficient_quota"),
        (429, {"error": "top up", "code": "insufficient_quota"}, r"the quota is used up; .*429 - .*top up"),
        (404, {"detail": "no such model"}, r"cannot take requests for gpt-4o \(HTTP 404: .*no such model"),
        (400, {"error": "model_not_found"}, r"cannot take requests for gpt-4o \(HTTP 400: .*model_not_found"),
        (429, {"error": "slow down, please"}, r"last 10 requests all failed \(HTTP 429\).*slow down, please"),
    ],
)  # fmt: skip
def test_an_error_that_is_a_plain_string_is_known_and_shown(tmp_path, status, body, told):
    server = Endpoint(lambda *_: (status, body))
    with pytest.raises(GenerationStopped, match=told):
        two_steps.generate(live(server.url, *STS, "generate.concurrency=1"), tmp_path)


@pytest.mark.parametrize("errors", ["the file is too old", ["the file is too old"]])
def test_a_batch_refused_with_a_plain_string_says_it(tmp_path, errors):
    api = BatchApi()
    api.create = lambda file_id: api.add(file_id, "failed", 0, 0, errors=errors)
    with pytest.raises(GenerationStopped, match="batch-0 was refused as a whole: the file is too old"):
        two_steps.generate(batched(api.url, *STS[:1], "generate.models={a: 1}"), tmp_path)


EMPTY = {
    "null": (None, "empty reply"),
    "null message": ([{"message": None, "finish_reason": "stop"}], "empty reply"),
    "no choice": ([], "empty reply"),
    "no message": ([{"index": 0, "finish_reason": "stop"}], "empty reply"),
    "no object": ([None], "empty reply"),
    "error": (
        [{"message": {"content": '{"S1": "a"}'}, "finish_reason": "error"}],
        "broken off by the endpoint",
    ),
    "filter": ([{"message": {"content": None}, "finish_reason": "content_filter"}], "content filter"),
}


@pytest.mark.parametrize(("choices", "reason"), EMPTY.values(), ids=EMPTY)
def test_replies_without_an_answer_are_kept_counted_and_end_a_run_that_brings_nothing_else(
    tmp_path, choices, reason
):
    """20 answers, then none: what is paid is stored, and the rest is not sent."""
    server = Endpoint(lambda body, n: (200, answer(body) | ({"choices": choices} if n > 20 else {})))
    p = live(server.url, *STS, "generate.examples=100", "generate.concurrency=1")
    with pytest.raises(GenerationStopped, match=rf"the last 10 requests all failed \({reason}\).*choices"):
        two_steps.generate(p, tmp_path)
    usage = json.loads((tmp_path / "usage.json").read_text())
    assert len(stored(tmp_path)) == 30 == sum(server.asked.values()) and usage["unusable"] == {reason: 10}
    assert usage["models"]["gpt-4o"]["completion_tokens"] == 90, "what was paid for is counted"


def test_an_answer_between_replies_without_one_lets_a_run_go_on(tmp_path):
    server = Endpoint(lambda body, n: (200, answer(body) | ({"choices": []} if n % 10 else {})))
    usage = two_steps.generate(live(server.url, *STS, "generate.concurrency=1"), tmp_path)
    assert usage["unusable"] == {"empty reply": 27} and set(stored(tmp_path)) == requested(tmp_path)


def spoiling(api: BatchApi, spoil) -> BatchApi:
    """The same Batch API, with ``spoil(row, number of the batch)`` applied to each row of its output."""
    add = api.add

    def spoilt(file_id: str, status: str, *counts, **ids) -> dict:
        if name := ids.get("output_file_id"):
            rows = [json.loads(line) for line in api.files[name].splitlines()]
            told = [spoil(row, len(api.batches)) for row in rows]
            api.files[name] = "".join(json.dumps(row) + "\n" for row in told)
        return add(file_id, status, *counts, **ids)

    api.add = spoilt
    return api


@pytest.mark.parametrize(("choices", "reason"), EMPTY.values(), ids=EMPTY)
def test_batch_replies_without_an_answer_are_kept_counted_and_bought_once(tmp_path, choices, reason):
    def spoil(row, number):
        body = row["response"]["body"]
        return row | {"response": row["response"] | {"body": body | {"choices": choices}}}

    api = spoiling(BatchApi(), lambda row, n: spoil(row, n) if int(row["custom_id"], 16) % 2 else row)
    usage = two_steps.generate(batched(api.url, *STS[:1], "generate.models={a: 1}"), tmp_path)
    count = sum(int(name, 16) % 2 for name in requested(tmp_path))
    assert usage["unusable"] == {reason: count} and usage["failures"] == {}
    assert set(stored(tmp_path)) == requested(tmp_path) and set(api.asked.values()) == {1}


def test_a_batch_of_replies_without_an_answer_ends_a_run(tmp_path):
    """The first batch is of use, so that a look at the first replies does not stop the run."""

    def spoil(row, number):
        return row | {"response": {"status_code": 200, "body": {"choices": None}}} if number else row

    p = batched(spoiling(BatchApi(), spoil).url, *STS[:1], "generate.examples=60", "generate.concurrency=1")
    with pytest.raises(
        GenerationStopped, match=r"the last (\d+) replies all have no answer \(empty reply: \1\)"
    ):
        two_steps.generate(p, tmp_path)
    assert len(stored(tmp_path)) == 60


def test_a_batch_answer_that_is_no_reply_may_be_billed_and_the_strays_of_every_round_are_counted(tmp_path):
    def spoil(row, number):
        bad = {"status_code": 200, "body": {"error": {"message": "upstream"}, "choices": None}}
        return row | {"response": bad} if number == 0 else row

    api = spoiling(
        BatchApi(lambda n, line: "unknown" if n == 0 and line["body"]["seed"] % 2 else "ok"), spoil
    )
    more = ["generate.models={gpt-4o: 1}", "generate.budget_usd=50"]
    usage = two_steps.generate(batched(api.url, *STS[:1], *more), tmp_path)
    strays = usage["failures"]["unknown custom_id"]
    assert usage["failures"] == {"unknown custom_id": strays} and set(stored(tmp_path)) == requested(tmp_path)
    assert 0 < strays < 30 and usage["unconfirmed_usd"] > 0
