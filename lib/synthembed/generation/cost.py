"""What generation will cost before anything is spent, and what it has cost (Sec. 4.1)."""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path

import yaml

from synthembed.generation import request_bodies
from synthembed.generation.items import Item
from synthembed.profile.settings import Profile

PACKAGE_DATA = ("prices.yaml",)  # read here, and so part of the code's fingerprint

CHARACTERS_PER_TOKEN = 4.0  # English prompts, by the GPT tokenizers
TOKENS_PER_WORD = 1.4  # of English replies; other languages take more
OTHER_LANGUAGES = 1.8
SECONDS_PER_REPLY = 10.0  # live, one request of a few hundred tokens
SAMPLE = 2000
UNIT_WORDS = {"sentence": 18, "phrase": 6, "passage": 60}


@cache
def prices() -> dict:
    """The dated price table."""
    return yaml.safe_load((Path(__file__).parent / "prices.yaml").read_text(encoding="utf-8"))


def price(model: str, prompt_tokens: float, completion_tokens: float, batch: bool) -> float | None:
    """USD for so many tokens, or None if the price table does not know the model."""
    row = prices()["models"].get(model)
    if row is None:
        return None
    usd = (prompt_tokens * row["input"] + completion_tokens * row["output"]) / 1e6
    return usd * (prices()["batch_discount"] if batch else 1)


class BudgetError(ValueError):
    """A budget that cannot be kept, as a model has no price."""


class Meter:
    """Money against a budget, in USD: ``spent`` by what replies report, ``reserved`` for requests in
    flight, ``unconfirmed`` for requests that ended without a reply and may have been billed.

    A request is reserved at what it costs if its reply is as long as it may be, so that the budget
    holds whatever the replies turn out to be. Attempts that the SDK repeated with success are not
    counted: what a timed-out one cost, if anything, nobody reports.
    """

    def __init__(self, budget: float | None, models: dict[str, float], batch: bool):
        unknown = [m for m, share in models.items() if share and price(m, 0, 0, batch) is None]
        if budget is not None and unknown:
            raise BudgetError(
                f"generate.budget_usd = {budget}, but {', '.join(unknown)} has no price: add it to "
                "lib/synthembed/generation/prices.yaml, or set generate.budget_usd=null"
            )
        self.budget, self.batch = budget, batch
        self.spent = self.reserved = self.unconfirmed = 0.0
        self.models = [m for m, share in models.items() if share]

    def cost(self, reply: dict) -> float:
        """USD of a stored reply, by the usage that it reports; 0 where no model has a price."""
        body = reply["response"]["body"]
        used = body.get("usage") or {}
        tokens = (used.get("prompt_tokens") or 0, used.get("completion_tokens") or 0)
        found = [price(m, *tokens, self.batch) or 0.0 for m in self._candidates(body.get("model") or "")]
        return max(found, default=0.0)

    def add(self, reply: dict) -> None:
        """Count a reply that an earlier run stored."""
        self.spent += self.cost(reply)

    def charge(self, reply: dict) -> None:
        """Count a new reply; raises BudgetError if there is a budget and no usage to hold it by."""
        self.add(reply)
        if self.budget is not None and not reply["response"]["body"].get("usage"):
            raise BudgetError(
                f"generate.budget_usd = {self.budget}, but the endpoint reports no usage, so that it "
                "cannot be kept: set generate.budget_usd=null, or use an endpoint that reports usage"
            )

    def _candidates(self, answered: str) -> list[str]:
        """The requested models that may have answered under a name such as "gpt-4-0613" or
        "vendor/gpt-4"; all of them if none fits, so that money is never undercounted."""
        name = answered.rpartition("/")[2]
        fits = [m for m in self.models if re.fullmatch(re.escape(m) + r"(-\d[\d-]*)?", name)]
        return fits or self.models

    def worst(self, line: dict) -> float:
        """USD that a request costs at most: all the tokens it may reply with, and a prompt (its
        schema counts) of half as many tokens as characters."""
        body = line["body"]
        prompt = len(json.dumps(body, ensure_ascii=False)) / 2
        return price(body["model"], prompt, body["max_completion_tokens"], self.batch) or 0.0

    def committed(self) -> float:
        return self.spent + self.unconfirmed + self.reserved

    def reserve(self, line: dict) -> bool:
        """Set aside what a request costs at most; False if the budget does not reach for it."""
        if self.budget is None:
            return True
        worst = self.worst(line)
        if self.committed() + worst > self.budget:
            return False
        self.reserved += worst
        return True

    def release(self, line: dict) -> None:
        if self.budget is not None:
            self.reserved -= self.worst(line)

    def used_up(self, left: str = "") -> str:
        """What to tell when the budget ends a run."""
        unsure = f", {self.unconfirmed:.2f} for requests without an answer" if self.unconfirmed else ""
        return (
            f"generate.budget_usd = {self.budget} is used up ({self.spent:.2f} spent{unsure}; a request is "
            f"sent only if its longest reply can be paid){left}: raise it and run again to go on"
        )

    def note(self) -> str:
        return f"{self.spent:.2f} USD" if self.spent else ""


def reply_words(item: Item, tasks_per_list: int) -> float:
    """Words that the reply to an item will have, from what its placeholders ask for."""
    if item.step == "brainstorm":
        return 15.0 * tasks_per_list
    asked = dict(item.placeholders)
    number = float(re.findall(r"\d+", str(asked.get("num_words", 0)))[0])
    return {
        "short-long": 12 + 2 * 1.15 * number,
        "long-short": 1.25 * number + 6,
        "long-long": 2 * 1.15 * number,
        "short-short": 16,
        "sts": 3 * UNIT_WORDS.get(asked.get("unit"), 0),
        "bitext": 3 * UNIT_WORDS.get(asked.get("unit"), 0),
    }[item.family]


def figures(profile: Profile) -> dict:
    """Requests, tokens, money (live and batch) and hours of a profile, from a sample of its requests."""
    g = profile.generate
    first = list(request_bodies.brainstorms(profile))
    stand_in = ["Given a question of a certain kind, find a passage that answers it in full."]
    tasks = {(i.family, i.number): stand_in for i, _ in first}
    draw, rng = request_bodies.sampler(profile), random.Random(0)
    numbers = rng.sample(range(g.examples), min(SAMPLE, g.examples))
    second = [draw.example(n, tasks) for n in numbers]
    pairs = [(i, 1.0) for i, _ in first] + [(i, g.examples / len(numbers)) for i in second]
    models: dict[str, list[float]] = {}
    for item, weight in pairs:
        body = request_bodies.body_of(item, g, profile.seed)
        prompt = len(body["messages"][0]["content"]) / CHARACTERS_PER_TOKEN
        factor = 1.0 if item.step == "brainstorm" or item.language == "en" else OTHER_LANGUAGES
        reply = min(reply_words(item, g.tasks_per_list) * TOKENS_PER_WORD * factor, g.max_tokens)
        row = models.setdefault(body["model"], [0.0, 0.0, 0.0])
        for n, amount in enumerate((1, prompt, reply)):
            row[n] += weight * amount
    total = len(first) + g.examples
    tokens = sum(p + c for _, p, c in models.values())
    hours = [total * SECONDS_PER_REPLY / g.concurrency / 3600]
    hours += [total / g.requests_per_minute / 60] if g.requests_per_minute else []
    hours += [tokens / g.tokens_per_minute / 60] if g.tokens_per_minute else []
    return {
        "brainstorm_requests": len(first),
        "example_requests": g.examples,
        "models": {
            m: {"requests": r, "prompt_tokens": p, "completion_tokens": c} for m, (r, p, c) in models.items()
        },
        "live_usd": _sum(price(m, p, c, False) for m, (_, p, c) in models.items()),
        "batch_usd": _sum(price(m, p, c, True) for m, (_, p, c) in models.items()),
        "live_hours": max(hours),
        "batches": sum(-(-int(r) // 50_000) for r, _, _ in models.values()) + (len(models) if first else 0),
        "batch_rounds": 2 if first else 1,
    }


def _many(tokens: float) -> str:
    return f"{tokens / 1e6:,.1f}M" if tokens >= 1e6 else f"{tokens / 1e3:,.1f}k"


def _sum(parts) -> float | None:
    found = list(parts)
    return None if None in found else sum(found)


def estimate(profile: Profile) -> str:
    """``figures`` in words."""
    f, table = figures(profile), prices()
    lines = [
        f"profile {profile.name}: {f['brainstorm_requests']:,} brainstorm requests, then "
        f"{f['example_requests']:,} example requests"
    ]
    for model, row in f["models"].items():
        lines.append(
            f"  {model}: {row['requests']:,.0f} requests, {_many(row['prompt_tokens'])} prompt and "
            f"{_many(row['completion_tokens'])} completion tokens"
        )
    if f["live_usd"] is None:
        unknown = [m for m in f["models"] if m not in table["models"]]
        lines.append(f"  money: no price for {', '.join(unknown)} in prices.yaml ({table['date']})")
    else:
        lines.append(f"  live:  {f['live_usd']:,.2f} USD, about {f['live_hours']:,.1f} hours")
        lines.append(
            f"  batch: {f['batch_usd']:,.2f} USD, {f['batches']} batches in {f['batch_rounds']} round(s) of "
            "at most 24 hours"
        )
        if profile.generate.budget_usd is not None:
            lines.append(f"  generate.budget_usd = {profile.generate.budget_usd:,.2f} is never exceeded")
    lines.append(
        f"  (prices of {table['date']}; {CHARACTERS_PER_TOKEN:g} characters a prompt token, "
        f"{TOKENS_PER_WORD:g} tokens a word of reply, x{OTHER_LANGUAGES:g} outside English)"
    )
    return "\n".join(lines)
