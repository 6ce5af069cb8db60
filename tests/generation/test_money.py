"""Money: the budget holds whatever the endpoint does, and the estimate is near what is written."""

import json
import time
from collections import defaultdict

import endpoints
import pytest
from endpoints import BatchApi, Endpoint, Handler, answer, batched, live, requested, stored
from synthembed import profile
from synthembed.generation import cost, parsing, two_steps
from synthembed.generation.reply_store import GenerationStopped, ReplyStore, reply_line
from synthembed.ground.files import read_lines
from synthembed.profile.generate_settings import Price
from synthembed.stages.record import Stage

GPT_4O = ["generate.models={gpt-4o: 1}", "generate.concurrency=16"]


def as_long_as_it_may_be(body, number):
    reply = answer(body)
    prompt = len(body["messages"][0]["content"]) // 4
    reply["usage"] = {"prompt_tokens": prompt, "completion_tokens": body["max_completion_tokens"]}
    return 200, reply


def test_the_budget_is_never_exceeded_and_almost_used(tmp_path):
    """16 requests at a time, each reply as long as the request allows."""
    server = Endpoint(as_long_as_it_may_be)
    with pytest.raises(GenerationStopped, match=r"budget_usd = 0\.4 is used up"):
        two_steps.generate(live(server.url, *GPT_4O, "generate.budget_usd=0.4"), tmp_path)
    usage = json.loads((tmp_path / "usage.json").read_text())
    assert 0.36 < usage["spent_usd"] <= 0.4
    for group in ("models", "families", "languages"):
        assert sum(x["usd"] for x in usage[group].values()) == pytest.approx(usage["spent_usd"], abs=1e-3)
    two_steps.generate(live(server.url, *GPT_4O, "generate.budget_usd=100"), tmp_path)
    assert set(server.asked.values()) == {1} and set(stored(tmp_path)) == requested(tmp_path)


def test_a_budget_needs_an_endpoint_that_reports_usage(tmp_path):
    def without_usage(body, number):
        return 200, {k: v for k, v in answer(body).items() if k != "usage"}

    server = Endpoint(without_usage)
    with pytest.raises(cost.BudgetError, match="the endpoint reports no usage"):
        two_steps.generate(live(server.url, *GPT_4O, "generate.budget_usd=5"), tmp_path)
    assert len(stored(tmp_path)) == sum(server.asked.values()) <= 16  # what was in flight is stored


@pytest.mark.parametrize(
    ("models", "answered", "usd"),
    [
        ({"openai/gpt-4o": 10, "openai/gpt-4o-mini": 1}, "openai/gpt-4o-mini", 1),
        ({"openai/gpt-4o": 10, "openai/gpt-4o-mini": 1}, "gpt-4o-mini-2024-07-18", 1),
        ({"x/one": 10, "y/one": 1}, "y/one", 1),
        ({"x/one": 10, "y/one": 1}, "one", 10),
        ({"gpt-4": 10, "gpt-35-turbo": 1}, "gpt-3.5-turbo-0125", 1),
        ({"gpt-4": 10, "gpt-35-turbo": 1}, "another", 10),
    ],
)
def test_a_reply_costs_what_the_model_costs_that_answered(models, answered, usd):
    own = {name: Price(input=price, output=price) for name, price in models.items()}
    meter = cost.Meter(None, dict.fromkeys(models, 1.0), False, own)
    reply = reply_line("id1", {"model": answered, "usage": {"prompt_tokens": 10**6}})
    assert meter.cost(reply) == usd


ODD = [None, "many", [], {"prompt_tokens": "7", "completion_tokens": None}]


@pytest.mark.parametrize("batch", [False, True])
def test_a_reply_without_usage_is_counted_as_unconfirmed_and_stays_so(tmp_path, monkeypatch, batch):
    def odd(body, number=0):
        return answer(body) | ({"usage": ODD[body["seed"] % 8 % 4]} if body["seed"] % 8 < 4 else {})

    monkeypatch.setattr(endpoints, "answer", odd)
    more = ["generate.families={sts: 1}", "generate.models={gpt-4o: 1}", "generate.no_budget=true"]
    make, server = (batched, BatchApi()) if batch else (live, Endpoint())
    usage = two_steps.generate(make(server.url, *more), tmp_path)
    bare = usage["models"]["gpt-4o"]["replies_without_usage"]
    lines = [x for x in read_lines(tmp_path / "requests.jsonl") if x["body"]["seed"] % 8 < 4]
    meter = cost.Meter(None, {"gpt-4o": 1.0}, batch)
    assert bare == len(lines) > 0 == len(usage["failures"]) and usage["spent_usd"] > 0
    most = sum(map(meter.worst, lines))
    assert usage["unconfirmed_usd"] == pytest.approx(most, abs=1e-4)
    again = two_steps.generate(make(server.url, *more), tmp_path)
    assert again["unconfirmed_usd"] == pytest.approx(most, abs=1e-4)


def test_requests_without_an_answer_count_against_the_budget(tmp_path):
    def hang(body, number):
        time.sleep(1)

    server = Endpoint(hang)
    with pytest.raises(GenerationStopped, match=r"0\.00 spent, 0\.\d\d for requests without an answer"):
        more = ["generate.budget_usd=0.15", "generate.timeout_s=0.2"]
        two_steps.generate(live(server.url, *GPT_4O, *more), tmp_path)
    usage = json.loads((tmp_path / "usage.json").read_text())
    assert usage["spent_usd"] == 0 and 0.1 < usage["unconfirmed_usd"] <= 0.15


def test_batches_are_submitted_in_waves_that_the_budget_can_pay(tmp_path):
    """The budget reaches for a part at the longest replies; short ones leave money for the next part."""
    api = BatchApi()
    more = ["generate.models={gpt-4o: 1}", "generate.budget_usd=0.15"]
    usage = two_steps.generate(batched(api.url, *more), tmp_path)
    assert set(stored(tmp_path)) == requested(tmp_path) and set(api.asked.values()) == {1}
    assert len(api.batches) > 2 and usage["spent_usd"] <= 0.15


def test_a_budget_too_small_for_a_batch_submits_nothing(tmp_path):
    api = BatchApi()
    more = ["generate.models={gpt-4o: 1}", "generate.budget_usd=0.001"]
    with pytest.raises(GenerationStopped, match=r"is used up .* \d+ requests are not submitted: raise it"):
        two_steps.generate(batched(api.url, *more), tmp_path)
    assert not api.batches and not api.files


def test_tokens_per_minute_count_what_replies_really_took(tmp_path):
    """Each reply takes 5,000 tokens, at 300,000 a minute: six seconds' worth at once, then one a second."""
    times = []

    def greedy(body, number):
        times.append(time.monotonic())
        reply = answer(body)
        reply["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 5000}
        return 200, reply

    more = ["generate.tokens_per_minute=300000", "generate.families={sts: 1}", "generate.examples=10"]
    two_steps.generate(live(Endpoint(greedy).url, *more, "generate.concurrency=1"), tmp_path)
    assert len(times) == 10 and times[-1] - times[0] > 2.5


def test_a_limit_smaller_than_one_request_waits_and_does_not_fail(tmp_path):
    """60,000 tokens a minute are 6,000 at once; the request counts for some 7,800."""
    server = Endpoint()
    more = ["generate.tokens_per_minute=60000", "generate.families={sts: 1}", "generate.examples=1"]
    start = time.monotonic()
    usage = two_steps.generate(live(server.url, *more, "generate.max_tokens=30000"), tmp_path)
    assert usage["failures"] == {} and len(stored(tmp_path)) == 1
    assert time.monotonic() - start > 1.2


def test_an_azure_deployment_is_asked_with_its_version_and_key(tmp_path, monkeypatch):
    seen = []

    class Seen(Handler):
        def do_POST(self):
            seen.append((self.path, self.headers["api-key"]))
            super().do_POST()

    monkeypatch.setenv("OPENAI_API_KEY", "key-of-this-test")
    server = Endpoint()
    server.RequestHandlerClass = Seen
    url = server.url.removesuffix("/v1") + "/openai/deployments/mine?api-version=2024-10-21"
    two_steps.generate(live(url, "generate.examples=4"), tmp_path)
    wanted = "/openai/deployments/mine/chat/completions?api-version=2024-10-21"
    assert set(seen) == {(wanted, "key-of-this-test")}


def test_one_process_at_a_time_writes_replies(tmp_path):
    store = ReplyStore(tmp_path / "replies.jsonl")
    with pytest.raises(GenerationStopped, match=r"another run is writing replies\.jsonl"):
        ReplyStore(tmp_path / "replies.jsonl")
    store.close()
    ReplyStore(tmp_path / "replies.jsonl").close()


def test_a_bad_line_among_the_replies_is_named(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text(
        '{"custom_id": "a", "response": {"body": {}}}\n{"custom_id": \n{"custom_id": "c", "response": {"body": {}}}\n'
    )
    with pytest.raises(ValueError, match=r"replies\.jsonl, line 2: not JSON"):
        ReplyStore(path)


def test_the_estimate_of_the_paper_keeps_its_shares_and_limits():
    paper = profile.load("paper", ["generate.tokens_per_minute=1000"])
    f = cost.figures(paper)
    counts = {m: row["requests"] for m, row in f["models"].items()}
    assert f["example_requests"] == 500_000 and sum(counts.values()) == pytest.approx(507_471, rel=1e-3)
    assert counts["gpt-4"] / sum(counts.values()) == pytest.approx(0.75, abs=0.03)
    assert f["batch_usd"] == pytest.approx(f["live_usd"] / 2)
    tokens = sum(row["prompt_tokens"] + row["completion_tokens"] for row in f["models"].values())
    assert f["live_hours"] == pytest.approx(tokens / 1000 / 60)
    told = cost.estimate(profile.load("paper", ["generate.budget_usd=500"]))
    assert "500.00 is never exceeded" in told and str(cost.prices()["date"]) in told


def test_the_estimate_is_near_the_recorded_english_replies(tmp_path):
    """Tokens by the estimate, against four characters a token of what was written."""
    p = profile.load("laptop")
    two_steps.generate(p, tmp_path)
    items = two_steps.read_items(tmp_path)
    sums = defaultdict(lambda: [0.0, 0.0])
    for line in read_lines(tmp_path / "replies.jsonl"):
        item = items[line["custom_id"]]
        if item.language == "en":
            row = sums["brainstorm" if item.step == "brainstorm" else item.family]
            row[0] += cost.reply_words(item, p.generate.tasks_per_list) * cost.TOKENS_PER_WORD
            row[1] += len(parsing.content_of(line)) / cost.CHARACTERS_PER_TOKEN
    assert len(sums) == 7
    for kind, (expected, written) in sums.items():
        assert expected == pytest.approx(written, rel=0.35), kind


def test_paid_replies_survive_a_recorded_run_in_the_same_folder(tmp_path):
    """A stage that begins anew deletes recorded replies, as they cost nothing, but no others."""
    folder = tmp_path / "r" / "01_generate"
    for paid in (True, False):
        Stage.open("01_generate", "smoke", [], "r", str(tmp_path))
        reply = reply_line("a", {"choices": []} | ({"usage": {"prompt_tokens": 1}} if paid else {}))
        (folder / "replies.jsonl").write_text(json.dumps(reply) + "\n")
        Stage.open("01_generate", "smoke", [], "r", str(tmp_path))
        assert (folder / "replies.jsonl").exists() == paid
