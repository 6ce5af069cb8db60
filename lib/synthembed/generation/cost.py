"""What generation will cost before anything is spent, and what it has cost (Sec. 4.1)."""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

from synthembed.generation import request_bodies
from synthembed.generation.items import Item
from synthembed.generation.paid.ledger import Ledger
from synthembed.ground.files import read_yaml
from synthembed.profile.generate_settings import Generate, Price
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
    return read_yaml(Path(__file__).parent / "prices.yaml")


def price(
    model: str, prompt_tokens: float, completion_tokens: float, batch: bool, own: Price | None = None
) -> float | None:
    """USD for so many tokens by the profile's ``own`` price or the price table, or None if there is none."""
    row = own.model_dump() if own else prices()["models"].get(model)
    if row is None:
        return None
    usd = (prompt_tokens * row["input"] + completion_tokens * row["output"]) / 1e6
    return usd * (prices()["batch_discount"] if batch else 1)


class BudgetError(ValueError):
    """A budget that cannot be kept, as a model has no price."""


def tokens_in(usage: Any) -> tuple[float, float]:
    """(prompt, completion) tokens of what an endpoint says of usage, whatever that is; zeros if nothing. What a
    total has beyond both is thoughts, which some endpoints bill as completion and do not count there."""
    told = usage if isinstance(usage, dict) else {}
    prompt, completion, total = (
        _count(told.get(f"{kind}_tokens")) for kind in ("prompt", "completion", "total")
    )
    return prompt, max(completion, total - prompt)


def _count(value: Any) -> float:
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if is_count else 0.0


class Meter:
    """Money against a budget, in USD: ``spent`` by what replies report, ``reserved`` for requests in
    flight, ``unconfirmed`` for requests that ended without a reply and may have been billed, those of
    earlier runs included (``ledger``).

    A request is reserved at what it costs if its reply is as long as it may be, so that the budget
    holds whatever the replies turn out to be. The SDK repeats only what was certainly not billed.
    """

    def __init__(
        self, budget: float | None, models: dict[str, float], batch: bool,
        own: dict[str, Price | None] | None = None, ledger: Ledger | None = None,
    ):  # fmt: skip
        self.budget, self.batch, self.own, self.ledger = budget, batch, own or {}, ledger
        self.models = [m for m, share in models.items() if share]
        unknown = [m for m in self.models if self._price(m, 0, 0, batch) is None]
        if budget is not None and unknown:
            raise BudgetError(
                f"generate.budget_usd = {budget}, but {', '.join(unknown)} has no price: set it, as in "
                f"generate.for_model={{{unknown[0]}: {{price: {{input: 1, output: 4}}}}}} (USD for a million "
                "tokens), or set generate.budget_usd=null and generate.no_budget=true"
            )
        self.spent = self.reserved = 0.0
        self.unconfirmed = ledger.unconfirmed if ledger else 0.0

    def _price(self, model: str, prompt: float, completion: float, batch: bool) -> float | None:
        return price(model, prompt, completion, batch, self.own.get(model))

    def cost(self, reply: dict) -> float:
        """USD of a stored reply, by the usage that it reports; 0 where no model has a price."""
        body = reply["response"]["body"]
        batch = _bought_in_batch(reply, self.batch)
        found = [
            self._price(m, *tokens_in(body.get("usage")), batch) or 0.0
            for m in self._candidates(str(body.get("model")))
        ]
        return max(found, default=0.0)

    def add(self, reply: dict) -> None:
        """Count a reply that an earlier run stored."""
        self.spent += self.cost(reply)

    def charge(self, reply: dict, most: float) -> bool:
        """Count a new reply; False if it reports no usage and is counted, unconfirmed, at what its request costs
        at ``most``. Raises BudgetError if there is a budget and no reply so far to hold it by."""
        self.add(reply)
        if any(tokens_in(reply["response"]["body"].get("usage"))):
            return True
        self.unconfirmed += most
        if self.budget is not None and not self.spent:
            raise BudgetError(
                f"generate.budget_usd = {self.budget}, but the endpoint reports no usage, so that it "
                "cannot be kept: set generate.budget_usd=null and generate.no_budget=true, or use an endpoint "
                "that reports usage"
            )
        return False

    def _candidates(self, answered: str) -> list[str]:
        """The requested models that may have answered under a name such as "gpt-4-0613" or
        "vendor/gpt-4"; all of them if none fits, so that money is never undercounted."""
        if answered in self.models:
            return [answered]
        fits = [
            m for m in self.models if re.fullmatch(re.escape(_bare(m)) + r"(-\d[\d-]*)?", _bare(answered))
        ]
        return fits or self.models

    def worst(self, line: dict) -> float:
        """USD that a request costs at most: all the tokens it may reply with, and a prompt (its schema counts) of
        half as many tokens as it has ASCII characters, and one for each byte of the others."""
        body = line["body"]
        most = request_bodies.most_tokens(body)
        if most == float("inf"):
            if self.budget is not None:
                raise BudgetError(
                    f"generate.max_tokens is null for {body['model']}, so that a reply may cost anything: set "
                    "it, or set generate.budget_usd=null and generate.no_budget=true"
                )
            most = 0.0
        prompt = _most_prompt_tokens(json.dumps(body, ensure_ascii=False))
        return self._price(body["model"], prompt, most, self.batch) or 0.0

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

    def sending(self, line: dict) -> None:
        """To be said before a request leaves: until ``settle`` it counts as money that may be spent."""
        if self.ledger and (worst := self.worst(line)):
            self.ledger.sent(line["custom_id"], worst)

    def owe(self, custom_id: str, most: float) -> None:
        """Let later runs count a reply of a batch that reports no usage."""
        if self.ledger and most:
            self.ledger.sent(custom_id, most)

    def settle(self, line: dict) -> None:
        """Its reply is stored, or it was certainly not billed."""
        if self.ledger:
            self.ledger.settled(line["custom_id"])

    def lose(self, line: dict) -> None:
        """It ended without a reply and may have been billed."""
        self.unconfirmed += self.worst(line)

    def used_up(self, left: str = "") -> str:
        """What to tell when the budget ends a run."""
        unsure = f", {self.unconfirmed:.2f} for requests without an answer" if self.unconfirmed else ""
        return (
            f"generate.budget_usd = {self.budget} is used up ({self.spent:.2f} spent{unsure}; a request is "
            f"sent only if its longest reply can be paid){left}: raise it and run again to go on"
        )

    def note(self) -> str:
        return f"{self.spent:.2f} USD" if self.spent else ""


def _bare(model: str) -> str:
    """A model's name without its vendor, and without dots, which Azure's names leave out."""
    return model.rpartition("/")[2].replace(".", "")


def _most_prompt_tokens(text: str) -> float:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) == len(text):
        return len(text) / 2
    ascii_only = sum(byte < 128 for byte in encoded)
    return ascii_only / 2 + len(encoded) - ascii_only


def _bought_in_batch(reply: dict, batch: bool) -> bool:
    """Whether a stored reply had the batch price: ``reply_store.reply_line`` names those that had not."""
    told = str(reply.get("id"))
    return told != f"batch_req_{reply['custom_id']}" and (batch or told.startswith("batch_req_"))


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


# Stands for a task that nobody has thought up yet, so that its request can be measured.
STAND_IN = ["Given a question of a certain kind, find a passage that answers it in full."]


def expected_tokens(item: Item, body: dict, settings: Generate) -> tuple[float, float]:
    """(prompt, completion) tokens that a request will probably take."""
    prompt = len(body["messages"][0]["content"]) / CHARACTERS_PER_TOKEN
    factor = 1.0 if item.step == "brainstorm" or item.language == "en" else OTHER_LANGUAGES
    reply = reply_words(item, settings.tasks_per_list) * TOKENS_PER_WORD * factor
    return prompt, min(reply, request_bodies.most_tokens(body))


def own_prices(settings: Generate) -> dict[str, Price | None]:
    return {model: settings.of(model).price for model in settings.models}


def figures(profile: Profile) -> dict:
    """Requests, tokens, money (live and batch) and hours of a profile, from a sample of its requests."""
    g = profile.generate
    first = list(request_bodies.brainstorms(profile))
    tasks = {(i.family, i.number): STAND_IN for i, _ in first}
    draw, rng = request_bodies.sampler(profile), random.Random(0)
    numbers = rng.sample(range(g.examples), min(SAMPLE, g.examples))
    second = [draw.example(n, tasks) for n in numbers]
    models: dict[str, list[float]] = {}
    own, waves = own_prices(g), []
    meter = Meter(None, g.models, g.backend == "batch", own)
    for items, weight in (([i for i, _ in first], 1.0), (second, g.examples / len(numbers))):
        worst = expected = 0.0
        for item in items:
            line = request_bodies.line_of(item, g, profile.seed)
            model = line["body"]["model"]
            tokens = expected_tokens(item, line["body"], g)
            row = models.setdefault(model, [0.0, 0.0, 0.0])
            for n, amount in enumerate((1, *tokens)):
                row[n] += weight * amount
            worst += weight * meter.worst(line)
            expected += weight * (price(model, *tokens, meter.batch, own[model]) or 0.0)
        waves.append((round(len(items) * weight), worst, expected))
    total = len(first) + g.examples
    tokens = sum(p + c for _, p, c in models.values())
    rounds, answered = budget_waves(waves, g.budget_usd)
    return {
        "brainstorm_requests": len(first),
        "example_requests": g.examples,
        "models": {
            m: {"requests": r, "prompt_tokens": p, "completion_tokens": c} for m, (r, p, c) in models.items()
        },
        "live_usd": _sum(price(m, p, c, False, own[m]) for m, (_, p, c) in models.items()),
        "batch_usd": _sum(price(m, p, c, True, own[m]) for m, (_, p, c) in models.items()),
        "most_usd": sum(worst for _, worst, _ in waves),
        "live_hours": live_hours(total, tokens, g),
        "batches": sum(-(-int(r) // 50_000) for r, _, _ in models.values()) + (len(models) if first else 0),
        "batch_rounds": rounds,
        "answered": answered,
    }


def live_hours(requests: float, tokens: float, settings: Generate) -> float:
    """Hours that so many requests take live, by the limits of the profile."""
    hours = [requests * SECONDS_PER_REPLY / settings.concurrency / 3600]
    hours += [requests / settings.requests_per_minute / 60] if settings.requests_per_minute else []
    hours += [tokens / settings.tokens_per_minute / 60] if settings.tokens_per_minute else []
    return max(hours)


LEAST_WAVE = 0.1  # of the missing requests; a budget that reaches for fewer in a batch ends the run


def budget_waves(steps: list[tuple[int, float, float]], budget: float | None) -> tuple[int, int]:
    """(rounds of batches, requests answered) where each round has what the budget can pay at the longest
    replies and the next one what the replies left of it. ``steps``: (requests, USD at most, USD expected)."""
    rounds = answered = 0
    spent = 0.0
    for count, worst, expected in steps:
        left = count
        while left:
            wave = left
            if budget is not None and worst:
                wave = min(left, max(0, int((budget - spent) / (worst / count))))
            if wave < LEAST_WAVE * left:
                return rounds, answered
            rounds, answered, left = rounds + 1, answered + wave, left - wave
            spent += wave * expected / count
    return rounds, answered


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
    g = profile.generate
    if f["live_usd"] is None:
        unknown = [m for m in f["models"] if m not in table["models"] and not g.of(m).price]
        lines.append(f"  money: no price for {', '.join(unknown)} in prices.yaml ({table['date']})")
    else:
        lines.append(f"  live:  {f['live_usd']:,.2f} USD, about {f['live_hours']:,.1f} hours")
        lines.append(
            f"  batch: {f['batch_usd']:,.2f} USD, {f['batches']} batches in {f['batch_rounds']} round(s) of "
            "at most 24 hours"
        )
        lines.append(
            f"  at most: {f['most_usd']:,.2f} USD ({g.backend}), were every reply as long as it may be"
        )
        if g.budget_usd is not None:
            lines.append(f"  generate.budget_usd = {g.budget_usd:,.2f} is never exceeded")
            total = f["brainstorm_requests"] + f["example_requests"]
            if g.backend == "batch" and f["answered"] < total:
                lines.append(
                    f"  but it ends the run after about {f['answered']:,} of {total:,} requests: each round "
                    "submits what can be paid at the longest replies"
                )
    lines.append(
        f"  (prices of {table['date']}; {CHARACTERS_PER_TOKEN:g} characters a prompt token, "
        f"{TOKENS_PER_WORD:g} tokens a word of reply, x{OTHER_LANGUAGES:g} outside English)"
    )
    return "\n".join(lines)
