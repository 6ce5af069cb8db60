"""Recorded and live generation: resuming, failures by name, and real endpoints on this machine."""

import json
from collections import Counter

import pytest
from endpoints import SMALL, Endpoint, error, live
from synthembed import profile
from synthembed.corpus import example
from synthembed.generation import local_server, parsing, two_steps
from synthembed.generation.reply_store import GenerationStopped, ReplyStore, reply_line
from synthembed.ground.files import read_lines
from synthembed.profile.taxonomy import FAMILIES


def test_recorded_replies_answer_the_laptop_profile(tmp_path):
    p = profile.load("laptop")
    usage = two_steps.generate(p, tmp_path)
    assert usage["failures"].get("not recorded", 0) <= 0.05 * p.generate.examples
    lines = [json.loads(x) for x in open(tmp_path / "replies.jsonl", encoding="utf-8")]
    items = two_steps.read_items(tmp_path)
    found = [
        example.example_of(x, items[x["custom_id"]]) for x in lines if items[x["custom_id"]].step == "example"
    ]
    assert len(found) >= 2000 and {e.family for e in found} == set(FAMILIES)
    assert len({e.language for e in found}) >= 30


def test_recorded_replies_for_other_requests_stop_with_a_remedy(tmp_path):
    with pytest.raises(GenerationStopped, match="differs from the recorded run's"):
        two_steps.generate(profile.load("laptop", ["seed=7"]), tmp_path)


def test_live_asks_once_stores_once_and_resumes(tmp_path):
    server = Endpoint()
    usage = two_steps.generate(live(server.url), tmp_path)
    assert usage["failures"] == {} and set(server.asked.values()) == {1}
    total = sum(server.asked.values())
    assert usage["models"]["claude"]["replies"] == total
    assert usage["models"]["claude"]["completion_tokens"] == 3 * total
    stored = (tmp_path / "replies.jsonl").read_bytes()
    (tmp_path / "replies.jsonl").write_bytes(stored[:-30])  # a crash tore the last line
    again = two_steps.generate(live(server.url), tmp_path)
    assert sum(server.asked.values()) == total + 1 and again["failures"] == {}
    ids = [json.loads(x)["custom_id"] for x in open(tmp_path / "replies.jsonl", encoding="utf-8")]
    assert len(ids) == len(set(ids)) == total


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (lambda body, n: error(401, "invalid_api_key"), "refused the key"),
        (lambda body, n: error(429, "insufficient_quota") if n > 10 else None, "quota is used up"),
    ],
)
def test_a_wrong_key_or_an_empty_quota_stops_at_once(tmp_path, script, said):
    server = Endpoint(script)
    with pytest.raises(GenerationStopped, match=said):
        two_steps.generate(live(server.url, "generate.concurrency=2"), tmp_path)
    assert sum(server.asked.values()) <= 14


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (error(500, "x"), "HTTP 500"),
        (error(503, "x"), "HTTP 503"),
        (error(429, "rate_limit_exceeded"), "HTTP 429"),
        ((200, b"<html>"), "body is not JSON"),
    ],
)
def test_failures_are_counted_by_name_and_asked_again(tmp_path, reply, reason):
    broken = True

    def script(body, number):
        return reply if broken and body["seed"] % 3 == 0 else None

    server = Endpoint(script)
    first = two_steps.generate(live(server.url), tmp_path)["failures"]
    assert first[reason] >= 1 and set(first) <= {reason, "no brainstormed task"}
    broken = False
    assert two_steps.generate(live(server.url), tmp_path)["failures"] == {}


def test_no_key_and_no_endpoint_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(GenerationStopped, match="OPENAI_API_KEY is not set"):
        two_steps.generate(profile.load("laptop", [*SMALL, "generate.backend=live"]), tmp_path)


def test_the_key_reaches_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-this-test")
    two_steps.generate(live(Endpoint().url), tmp_path)
    assert all(b"sk-secret" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize("torn", [b"", b"{", b'{"custom_id": "b"', b'{"custom_id": "b", "x": "\xc3'])
def test_a_torn_last_line_is_cut_off(tmp_path, torn):
    path = tmp_path / "replies.jsonl"
    path.write_bytes(b'{"custom_id": "a", "response": {"body": {}}}\n' + torn)
    store = ReplyStore(path)
    assert store.ids == {"a"}
    store.append(reply_line("b", {}))
    store.append(reply_line("b", {}))
    store.close()
    assert [x["custom_id"] for x in store.lines()] == ["a", "b"]


def test_a_real_llm_server_answers_every_family(tmp_path, monkeypatch):
    """llama.cpp's OpenAI-compatible server with the embedded model, schema-constrained."""
    monkeypatch.setattr(local_server, "cores", lambda: 1)  # threads that wait for each other spin
    # Two lists of tasks for each family that has such, whatever the model makes of them; the others by their share.
    shares = {family: {"sts": 5, "bitext": 2}.get(family, 1) for family in FAMILIES}
    with local_server.server() as url:
        p = live(
            url, "generate.concurrency=4", "generate.timeout_s=300", "generate.examples=11",
            "generate.max_tokens=96", "generate.examples_per_task=0.2", f"generate.families={json.dumps(shares)}",
            "generate.languages=[en, fr]", "generate.tasks_per_list=3",
        )  # fmt: skip
        usage = two_steps.generate(p, tmp_path)
    items = two_steps.read_items(tmp_path)
    asked = Counter(item.family for item in items.values())
    outcomes = Counter()
    for line in read_lines(tmp_path / "replies.jsonl"):
        item = items[line["custom_id"]]
        try:
            outcomes[type(parsing.parse(line, item)).__name__] += 1
        except parsing.Rejected as reason:
            outcomes[str(reason)] += 1
    assert all(asked[family] >= 2 for family in FAMILIES), asked
    assert sum(outcomes.values()) == len(items), "a request is neither stored nor counted"
    good = {"Brainstorm", "ShortLong", "LongShort", "Matching", "Scored"}
    assert set(outcomes) <= good | {"cut off at max_tokens", "not the schema"}  # small models ramble
    assert sum(outcomes[kind] for kind in good) >= 4
    assert usage["models"] and all(m["completion_tokens"] > 0 for m in usage["models"].values())
