"""Several servers of one model: one store, one budget, no request twice, and limits for each."""

import json
from collections import Counter

import pytest
from endpoints import Endpoint, answer, live
from synthembed.generation import live as asking
from synthembed.generation import two_steps
from synthembed.generation.reply_store import GenerationStopped
from synthembed.ground.files import read_lines
from synthembed.profile.generate_settings import Generate


@pytest.fixture
def servers():
    made = [Endpoint(), Endpoint()]
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


def asked(servers) -> Counter:
    return sum((server.asked for server in servers), Counter())


def test_two_servers_share_the_requests_and_a_dead_one_is_passed_over(servers, tmp_path):
    dead = Endpoint()
    dead.shutdown()
    dead.server_close()
    urls = [server.url for server in servers] + [dead.url]
    chosen = live(urls[0], f"generate.replicas=[{','.join(urls[1:])}]", "generate.concurrency=4")
    two_steps.generate(chosen, tmp_path)
    assert set(asked(servers).values()) == {1}
    assert all(len(server.asked) > 5 for server in servers)
    stored = [line["custom_id"] for line in read_lines(tmp_path / "replies.jsonl")]
    assert len(stored) == len(set(stored)) == len(asked(servers))
    two_steps.generate(chosen, tmp_path)  # all is there
    assert set(asked(servers).values()) == {1}


def test_one_budget_for_all_servers(tmp_path):
    servers = [Endpoint(as_long_as_it_may_be), Endpoint(as_long_as_it_may_be)]
    more = ["generate.models={gpt-4o: 1}", "generate.concurrency=16", "generate.budget_usd=0.4"]
    with pytest.raises(GenerationStopped, match=r"budget_usd = 0\.4 is used up"):
        two_steps.generate(live(servers[0].url, f"generate.replicas=[{servers[1].url}]", *more), tmp_path)
    assert 0.36 < json.loads((tmp_path / "usage.json").read_text())["spent_usd"] <= 0.4
    assert all(server.asked for server in servers) and set(asked(servers).values()) == {1}


def as_long_as_it_may_be(body, number):
    reply = answer(body)
    prompt = len(body["messages"][0]["content"]) // 4
    reply["usage"] = {"prompt_tokens": prompt, "completion_tokens": body["max_completion_tokens"]}
    return 200, reply


def test_each_server_has_its_own_limits(servers, tmp_path, monkeypatch):
    made = []

    class Counting(asking.AsyncLimiter):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.count = 0
            made.append(self)

        async def acquire(self, amount=1):
            self.count += 1
            await super().acquire(amount)

    monkeypatch.setattr(asking, "AsyncLimiter", Counting)
    limited = "generate.requests_per_minute=100000"
    two_steps.generate(live(servers[0].url, f"generate.replicas=[{servers[1].url}]", limited), tmp_path)
    assert len(made) == 4  # for each server, in each of the two steps
    assert sum(limiter.count for limiter in made) == asked(servers).total()
    assert all(limiter.count for limiter in made)


def test_servers_of_the_mix_are_not_those_of_a_model_that_is_elsewhere():
    own = {"gpt-4": {"base_url": "http://b/v1"}}
    settings = Generate(base_url="http://a/v1", replicas=["http://c/v1", "http://a/v1"], for_model=own)
    assert [s.base_url for s in settings.of("gpt-35-turbo").servers()] == ["http://a/v1", "http://c/v1"]
    assert [s.base_url for s in settings.of("gpt-4").servers()] == ["http://b/v1"]
