"""Money, in the open: said before, never spent twice, never for a model that does not answer."""

import json
import threading
import time
from collections import Counter

import pytest
from endpoints import BatchApi, Endpoint, Handler, answer, batched, error, live, requested, stored
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed import profile
from synthembed.generation import cost, request_bodies, two_steps
from synthembed.generation.paid import again, plan, streamed
from synthembed.generation.paid.ledger import Ledger, unconfirmed
from synthembed.generation.reply_store import GenerationStopped
from synthembed.profile.taxonomy import ASYMMETRIC

STS = ["generate.families={sts: 1}", "generate.models={gpt-4o: 1}"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["sent", "settled", "killed", "torn"]))))
def test_a_ledger_never_forgets_a_request(tmp_path_factory, steps):
    """Requests of 1 USD, sent and settled in any order, the process killed in between."""
    folder, sent, before = tmp_path_factory.mktemp("ledger"), Counter(), 0
    book = Ledger(folder, sync=False)
    for name, step in steps:
        if step == "sent":
            book.sent(name, 1.0)
            sent[name] += 1
        elif step == "settled" and sent[name]:
            book.settled(name)
            sent[name] -= 1
        elif step in ("killed", "torn"):
            if step == "torn":
                with open(folder / "sent.jsonl", "a") as file:
                    file.write('[1, "a"')
            before, sent = before + sent.total(), Counter()
            book = Ledger(folder, sync=False)
            assert book.unconfirmed == before
    assert unconfirmed(folder) == before + sent.total()


def test_what_timed_out_counts_in_the_next_runs_too(tmp_path):
    """Three runs, each of which would have spent the budget anew."""
    server = Endpoint(lambda body, number: time.sleep(1.5))
    more = [*STS, "generate.budget_usd=0.15", "generate.timeout_s=0.3", "generate.max_retries=3"]
    p = live(server.url, *more, "generate.concurrency=2")
    for _ in range(3):
        with pytest.raises(GenerationStopped, match=r"is used up \(0\.00 spent, 0\.1\d for requests without"):
            two_steps.generate(p, tmp_path)
    meter = cost.Meter(None, p.generate.models, False)
    most = max(meter.worst(line) for line in map(json.loads, open(tmp_path / "requests.jsonl")))
    assert set(server.asked.values()) == {1}, "a request that timed out was sent again"
    assert sum(server.asked.values()) * most <= 0.15 * 1.05


@pytest.mark.parametrize(
    ("told", "times", "reason"),
    [
        (("reset", None), 1, "connection"),
        (error(504, "x"), 1, "HTTP 504"),
        (error(503, "x"), 3, "HTTP 503"),
        (error(429, "rate_limit_exceeded"), 3, "HTTP 429"),
    ],
)
def test_only_what_was_certainly_not_billed_is_repeated(tmp_path, told, times, reason):
    server = Endpoint(lambda body, number: told)
    p = live(server.url, *STS, "generate.max_retries=2", "generate.examples=2", "generate.budget_usd=1")
    usage = two_steps.generate(p, tmp_path)
    assert usage["failures"] == {reason: 2} and set(server.asked.values()) == {times}
    assert (usage["unconfirmed_usd"] > 0) == (times == 1)
    assert two_steps.generate(p, tmp_path)["unconfirmed_usd"] == pytest.approx(
        2 * usage["unconfirmed_usd"], abs=3e-4
    )


def test_an_unknown_model_stops_at_once_and_is_named(tmp_path):
    server = Endpoint(lambda body, number: error(404, "model_not_found", "no such deployment"))
    with pytest.raises(GenerationStopped, match=r"requests for gpt-4o \(HTTP 404: .*no such deployment"):
        two_steps.generate(live(server.url, *STS, "generate.concurrency=1"), tmp_path)
    assert sum(server.asked.values()) == 1


def test_429_for_ever_ends_the_run_which_is_not_finished(tmp_path):
    """30 of 150 answered, then nothing but refusals: the rest is not sent, and the next run asks for it."""

    def script(body, number):
        return error(429, "rate_limit_exceeded", "slow down, please") if number > 30 else None

    server = Endpoint(script)
    p = live(server.url, *STS, "generate.examples=150", "generate.concurrency=2")
    with pytest.raises(GenerationStopped, match=r"the last 10 requests all failed \(HTTP 429\).*slow down"):
        two_steps.generate(p, tmp_path)
    assert sum(server.asked.values()) < 45 and len(stored(tmp_path)) == 30
    server.script = lambda body, number: None
    assert two_steps.generate(p, tmp_path)["incomplete"] == ""
    assert set(stored(tmp_path)) == requested(tmp_path)


def test_failures_above_the_share_make_a_run_incomplete(tmp_path):
    server = Endpoint(lambda body, number: error(500, "x") if body["seed"] % 3 == 0 else None)
    usage = two_steps.generate(live(server.url, *STS), tmp_path)
    with pytest.raises(GenerationStopped, match=r"incomplete: \d+ of 30 requests have no reply \(HTTP 500"):
        two_steps.complete(usage)
    two_steps.complete(two_steps.generate(live(server.url, *STS, "generate.failures_at_most=0.9"), tmp_path))


def test_a_paid_endpoint_needs_a_budget_or_a_word(tmp_path):
    paid = ["generate.base_url=https://api.example.org/v1"]
    with pytest.raises(plan.NotAllowed, match=r"asks gpt-4o for money and generate\.budget_usd is not set"):
        two_steps.generate(live("http://x", *STS, *paid), tmp_path)
    local = live("http://127.0.0.1:9/v1", *STS)
    with pytest.raises(plan.NotAllowed, match="synthembed estimate --profile laptop"):
        plan.announce(local, tmp_path)  # what it hands on may be paid for
    assert list(tmp_path.iterdir()) == []
    for agreed in ("generate.no_budget=true", "generate.budget_usd=3"):
        told = plan.announce(local.with_overrides(dict([agreed.split("=")])), tmp_path)
        assert "30 requests: 0 replies are stored, 30 are to be sent" in told and "at most 0.66" in told


def test_replies_that_a_changed_setting_orphans_are_not_bought_again(tmp_path):
    server = Endpoint()
    money = [*STS, "generate.budget_usd=5"]
    two_steps.generate(live(server.url, *money), tmp_path)
    assert "30 replies are stored, 0 are to be sent" in plan.announce(live(server.url, *money), tmp_path)
    changed = live(server.url, *money, "generate.temperature=0.5")
    said = r"30 stored replies \(.* USD\) answer none .*generate\.temperature \(1\.0 → 0\.5\)"
    for ask in (plan.announce, two_steps.generate):
        with pytest.raises(plan.NotAllowed, match=said):
            ask(changed, tmp_path)
    assert sum(server.asked.values()) == 30
    two_steps.generate(
        live(server.url, *money, "generate.temperature=0.5", "generate.buy_again=true"), tmp_path
    )
    two_steps.generate(changed, tmp_path)  # agreed to once
    assert sum(server.asked.values()) == 60 == len(stored(tmp_path))


def test_a_smaller_run_loses_no_reply_and_a_larger_one_asks_for_the_rest(tmp_path):
    server = Endpoint()
    money = ["generate.models={gpt-4o: 1}", "generate.budget_usd=5"]
    for examples in (30, 10, 60):
        told = plan.announce(live(server.url, *money, f"generate.examples={examples}"), tmp_path)
        assert "answer none" not in told
        two_steps.generate(live(server.url, *money, f"generate.examples={examples}"), tmp_path)
    assert set(server.asked.values()) == {1}


def test_a_model_of_which_nothing_can_be_used_is_not_paid_to_the_end(tmp_path):
    def chatty(body, number):
        reply = answer(body)
        reply["choices"][0]["message"]["content"] = "I would rather talk."
        return 200, reply

    server = Endpoint(chatty)
    with pytest.raises(GenerationStopped, match=r"none of the first 20 replies .*not JSON: 20.*rather talk"):
        two_steps.generate(
            live(server.url, *STS, "generate.examples=200", "generate.concurrency=4"), tmp_path
        )
    assert sum(server.asked.values()) <= 24


def test_unusable_replies_are_asked_for_again_a_list_of_tasks_included(tmp_path):
    broken = True

    def script(body, number):
        reply = answer(body)
        if broken and body["seed"] % 2:
            reply["choices"][0]["message"]["content"] = "{"
        return 200, reply

    server = Endpoint(script)
    p = live(server.url, "generate.models={gpt-4o: 1}", "generate.budget_usd=5", "generate.examples=40")
    first = two_steps.generate(p, tmp_path)
    assert first["unusable"]["not JSON"] > 5 and first["failures"]["no brainstormed task"] > 0
    with pytest.raises(GenerationStopped, match=r"unusable replies by reason: \d+ 'not JSON'; name"):
        again.reask(p, tmp_path, [])
    broken, before = False, stored(tmp_path)
    told = again.reask(p, tmp_path, ["not JSON"])
    usage = json.loads((tmp_path / "usage.json").read_text())
    assert "unusable now: none" in told and usage["unusable"] == {} and usage["failures"] == {}
    assert stored(tmp_path)[: len(before)] == before, "what was paid for stays"
    assert "answer none" not in plan.announce(p, tmp_path) and set(server.asked.values()) == {1}


class Noted(Handler):
    """Notes path, key and body of every request."""

    seen: list = []  # noqa: RUF012

    def do_POST(self):
        self.seen.append((self.server.server_port, self.headers["Authorization"]))
        super().do_POST()


def test_two_providers_with_keys_of_their_own_and_requests_as_each_takes_them(tmp_path, monkeypatch):
    bodies, lock = [], threading.Lock()

    def script(body, number):
        with lock:
            bodies.append(body)
        return 200, answer(body | {"response_format": FORMAT})

    FORMAT = live("http://x").generate and request_bodies.body_of(
        two_steps.Item("example", 1, "sts", placeholders=(("unit", "phrase"), ("high_score", 4), ("low_score", 2), ("difficulty", "college"))),
        live("http://x").generate, 1,
    )["response_format"]  # fmt: skip
    one, other = Endpoint(script), Endpoint(script)
    one.RequestHandlerClass = other.RequestHandlerClass = Noted
    Noted.seen.clear()
    monkeypatch.setenv("FIRST_KEY", ' "first-key-of-this-test"\n')
    monkeypatch.setenv("OPENAI_API_KEY", "other-key-of-this-test")
    own = {
        "base_url": one.url, "key_variable": "FIRST_KEY", "temperature": None, "top_p": None, "seed": 7,
        "token_limit": "max_tokens", "reasoning_effort": "low", "response_format": "text",
        "extra_body": {"top_k": 5}, "price": {"input": 1, "output": 2},
    }  # fmt: skip
    p = live(
        other.url, "generate.families={sts: 1}", "generate.models={odd: 1, gpt-4o: 1}", "generate.budget_usd=9",
        f"generate.for_model={json.dumps({'odd': own})}",
    )  # fmt: skip
    one.asked = other.asked = Counter()
    usage = two_steps.generate(p, tmp_path)
    assert usage["failures"] == {} and set(stored(tmp_path)) == requested(tmp_path)
    assert len(requested(tmp_path)) == 30, "with one seed for all, requests are still told apart"
    assert set(Noted.seen) == {
        (one.server_port, "Bearer first-key-of-this-test"),
        (other.server_port, "Bearer other-key-of-this-test"),
    }
    keys = {b["model"]: set(b) for b in bodies}
    assert keys["odd"] == {"model", "messages", "seed", "max_tokens", "reasoning_effort", "top_k"}
    assert {"temperature", "top_p", "max_completion_tokens", "response_format"} < keys["gpt-4o"]


def test_a_streamed_reply_is_the_same_reply(tmp_path):
    def script(body, number):
        assert body["stream"] and body["stream_options"] == {"include_usage": True}
        whole = answer(body)
        text = whole["choices"][0]["message"]["content"]
        pieces = [{"choices": [{"delta": {"content": part}}]} for part in (text[:5], text[5:])]
        pieces += [{"choices": [{"delta": {}, "finish_reason": "stop"}]}]
        pieces += [{"choices": [], "usage": whole["usage"], "model": whole["model"]}]
        lines = "".join(f"data: {json.dumps(p)}\n\n" for p in pieces)
        return 200, f"{lines}data: [DONE]\n\n".encode()

    server = Endpoint(script)
    usage = two_steps.generate(live(server.url, *STS, "generate.stream=true"), tmp_path)
    assert (
        usage["failures"] == {} == usage["unusable"] and usage["models"]["gpt-4o"]["completion_tokens"] == 90
    )
    cut = streamed.joined(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
    assert "choices" not in json.loads(cut), "a stream that broke off is no reply"


def test_a_queue_that_takes_few_tokens_is_met_by_smaller_batches(tmp_path):
    api = BatchApi()
    api.room = 9  # requests in one file
    usage = two_steps.generate(batched(api.url, "generate.models={a: 1}"), tmp_path)
    assert usage["failures"] == {} and set(stored(tmp_path)) == requested(tmp_path)
    assert set(api.asked.values()) == {1} and len(api.batches) < 16


def test_what_a_batch_refuses_for_good_is_sent_once(tmp_path):
    api = BatchApi(lambda number, line: "refused" if line["body"]["seed"] % 4 == 0 else "ok")
    usage = two_steps.generate(batched(api.url, "generate.families={sts: 1}"), tmp_path)
    refused = len(requested(tmp_path)) - len(stored(tmp_path))
    assert usage["failures"]["HTTP 400"] == refused > 0
    again = two_steps.generate(batched(api.url, "generate.families={sts: 1}"), tmp_path)  # remembers them
    assert again["failures"]["HTTP 400"] == refused and set(api.asked.values()) == {1}


def test_waves_of_a_budget_are_simulated():
    assert cost.budget_waves([(100, 10.0, 1.0)], None) == (1, 100)
    assert cost.budget_waves([(100, 10.0, 1.0)], 5.0) == (3, 100)  # 50, then 45, then 5
    assert cost.budget_waves([(10, 1.0, 0.1), (1000, 100.0, 10.0)], 1.0) == (1, 10)
    told = cost.estimate(profile.load("gpu", ["generate.backend=batch", "generate.budget_usd=0.01"]))
    assert "it ends the run after about" in told


TASKS = {(f, n): [f"{f} {n} {t}" for t in range(20)] for f in ASYMMETRIC for n in range(200)}


def test_tasks_are_dealt_before_one_is_used_again():
    p = profile.load("gpu", ["generate.examples=3000"])
    used: dict[tuple, list[str]] = {}
    draw = request_bodies.sampler(p)
    for number in range(3000):
        item = draw.example(number, TASKS)
        if item.family in ASYMMETRIC:
            used.setdefault((item.family, draw.list_number(item.family, number)), []).append(item.task)
    for tasks in used.values():
        for start in range(0, len(tasks), 20):
            turn = tasks[start : start + 20]
            assert len(set(turn)) == len(turn)
    fresh = request_bodies.sampler(p)  # no state: an item depends on its number alone
    assert [fresh.example(n, TASKS) for n in (2999, 5)] == [draw.example(n, TASKS) for n in (2999, 5)]


def test_the_papers_run_reaches_its_150_thousand_tasks():
    """Sec. 4.1: 500k examples, 150k unique instructions. Each list deals as many of its tasks as it has
    examples (above), so that the lists' counts are enough; drawn with replacement it were 131k."""
    p = profile.load("paper")
    draw, counts = request_bodies.sampler(p), Counter()
    for block in range(-(-p.generate.examples // 512)):
        for place, kind in enumerate(draw._kinds(block)):
            number, family = block * 512 + place, draw.families[kind]
            if number < p.generate.examples and family in ASYMMETRIC:
                counts[family, draw.list_number(family, number)] += 1
    distinct = sum(min(count, p.generate.tasks_per_list) for count in counts.values())
    assert distinct == pytest.approx(150_000, rel=0.01)
