"""Before a paid endpoint is asked: what will be sent, what is there already, what it may cost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthembed.generation import cost, items, request_bodies
from synthembed.generation.paid import again, endpoint, ledger
from synthembed.generation.paid.ledger import FOLDER
from synthembed.generation.reply_store import GenerationStopped, ReplyStore
from synthembed.ground.files import write_json
from synthembed.profile.settings import Profile

# Settings that no request depends on; the rest of the section makes the requests.
ELSEWHERE = (
    "backend", "examples", "base_url", "replicas", "key_variable", "price", "batch_endpoint", "concurrency",
    "requests_per_minute", "tokens_per_minute", "budget_usd", "no_budget", "buy_again", "failures_at_most",
    "poll_s", "timeout_s", "stream", "max_retries",
)  # fmt: skip


class NotAllowed(GenerationStopped):
    """Money would be spent that nobody has agreed to; nothing was sent."""


@dataclass
class Plan:
    """What a paid run has before it. ``usd_at_most`` and ``usd_expected`` are of the requests to send."""

    profile: Profile
    requests: int = 0
    stored: int = 0
    usd_at_most: float = 0.0
    usd_expected: float = 0.0
    tokens: float = 0.0
    spent: float = 0.0
    unconfirmed: float = 0.0
    orphans: int = 0
    usd_orphaned: float = 0.0
    changed: list[str] = field(default_factory=list)
    agreed: bool = False  # these very settings were sent before, orphans or not
    priced: bool = True

    @property
    def to_send(self) -> int:
        return self.requests - self.stored

    def __str__(self) -> str:
        g = self.profile.generate
        lines = [
            f"{self.requests:,} requests: {self.stored:,} replies are stored, {self.to_send:,} are to be sent"
        ]
        if self.orphans:
            lines.append(self.about_orphans())
        if self.priced:
            lines.append(
                f"  money: about {self.usd_expected:,.2f} USD, at most {self.usd_at_most:,.2f} (every reply as "
                f"long as it may be); {self.spent:,.2f} were spent before, {self.unconfirmed:,.2f} perhaps, on "
                "requests without a reply"
            )
        else:
            lines.append("  money: unknown, a model of the mix has no price (generate.for_model: price)")
        budget = "no budget" if g.budget_usd is None else f"generate.budget_usd = {g.budget_usd:,.2f}, kept"
        if g.backend == "batch":
            steps = [(self.to_send, self.usd_at_most, self.usd_expected)] if self.to_send else []
            left = g.budget_usd and g.budget_usd - self.spent - self.unconfirmed
            rounds, _ = cost.budget_waves(steps, left)
            lines.append(f"  time: {rounds or 1} or more rounds of batches, at most 24 hours each; {budget}")
        else:
            hours = cost.live_hours(self.to_send, self.tokens, g)
            lines.append(f"  time: about {hours:,.1f} hours; {budget}")
        return "\n".join(lines)

    def about_orphans(self) -> str:
        changed = ", ".join(self.changed) or "nothing that was noted"
        return (
            f"  {self.orphans:,} stored replies ({self.usd_orphaned:,.2f} USD) answer none of these requests; "
            f"changed since they were bought: {changed}"
        )

    def check(self) -> None:
        """Raise NotAllowed if replies would be bought again that a changed setting orphans."""
        if self.orphans and self.to_send and not (self.agreed or self.profile.generate.buy_again):
            raise NotAllowed(
                f"{self.about_orphans().strip()}. Set it back, use another --run, or say "
                "generate.buy_again=true to pay for them anew"
            )


def allow(profile: Profile, strictly: bool = True, with_key: bool = True) -> None:
    """Raise NotAllowed if the profile asks a paid endpoint without a budget, and GenerationStopped without
    its key. A server of this machine is paid for by nobody, but ``strictly`` it may hand on what it is
    asked: it is then taken for paid if the model has a price."""
    g = profile.generate
    paid = []
    for model in (m for m, share in g.models.items() if share and g.backend != "recorded"):
        own = g.of(model)
        if with_key:
            endpoint.client_options(own)
        priced = cost.price(model, 0, 0, False, own.price) is not None
        if not endpoint.on_this_machine(own) or (strictly and priced):
            paid.append(model)
    if paid and g.budget_usd is None and not g.no_budget:
        raise NotAllowed(
            f"generate.backend = {g.backend} asks {', '.join(paid)} for money and generate.budget_usd is not set: "
            f"set generate.budget_usd=20 (USD; synthembed estimate --profile {profile.name} tells how much is "
            "needed), or say generate.no_budget=true to spend without one"
        )


def missing(profile: Profile) -> list[str]:
    """What has to be filled in before a profile can ask its endpoints, one sentence each (doctor's)."""
    found = list(endpoint.missing(profile.generate))
    try:
        allow(profile, with_key=False)
    except NotAllowed as refusal:
        found.append(str(refusal))
    return found


def announce(profile: Profile, folder: Path) -> str:
    """What a run of stage 01 in ``folder`` has before it, in words. Raises NotAllowed before a paid endpoint
    is asked without a budget, or for what was paid already."""
    if profile.generate.backend == "recorded":
        return f"{profile.generate.examples:,} examples from recorded replies, which cost nothing"
    allow(profile)
    store = ReplyStore(folder / "replies.jsonl")
    try:
        plan = plan_of(profile, folder, store)
    finally:
        store.close()
    plan.check()
    return str(plan)


def plan_of(profile: Profile, folder: Path, store: ReplyStore) -> Plan:
    g = profile.generate
    plan = Plan(profile, unconfirmed=ledger.unconfirmed(folder / FOLDER))
    own = cost.own_prices(g)
    meter = cost.Meter(None, g.models, g.backend == "batch", own)
    plan.priced = all(cost.price(m, 0, 0, False, own[m]) is not None for m in meter.models)
    known = _requests(profile, folder, store, plan, meter)
    replaced = again.replaced(folder / FOLDER)
    for reply in store.lines():
        usd = meter.cost(reply)
        plan.spent += usd
        bought = any(cost.tokens_in(reply["response"]["body"].get("usage")))
        if bought and reply["custom_id"] not in known and reply["custom_id"] not in replaced:
            plan.orphans += 1
            plan.usd_orphaned += usd
    before, now = _asked(folder).get("settings", {}), _settings(profile)
    plan.agreed = before == now
    plan.changed = [f"{k} ({before[k]!r:.60} → {v!r:.60})" for k, v in now.items() if before.get(k, v) != v]
    return plan


def _asked(folder: Path) -> dict:
    return ledger.noted(folder / FOLDER / "asked.json", {})


def _requests(profile: Profile, folder: Path, store: ReplyStore, plan: Plan, meter: cost.Meter) -> set[str]:
    """The ids of all requests, counted in ``plan``. Where nothing is stored a sample is priced."""
    from synthembed.generation import two_steps

    if not store.ids:
        figures = cost.figures(profile)
        plan.requests = figures["brainstorm_requests"] + figures["example_requests"]
        plan.usd_at_most = figures["most_usd"]
        plan.usd_expected = figures["batch_usd" if meter.batch else "live_usd"] or 0.0
        plan.tokens = sum(m["prompt_tokens"] + m["completion_tokens"] for m in figures["models"].values())
        return set()
    g, attempts = profile.generate, again.attempts(folder / FOLDER)
    # A smaller run than the last one leaves replies aside, and loses none.
    most = max(g.examples, _asked(folder).get("examples", 0))
    larger = profile.model_copy(update={"generate": g.model_copy(update={"examples": most})})
    first = list(request_bodies.brainstorms(larger, attempts))
    tasks: dict = two_steps.brainstormed(first, store)
    for item, line in first:
        if line["custom_id"] not in store:
            tasks.setdefault((item.family, item.number), cost.STAND_IN)
    lists = {line["custom_id"] for _, line in request_bodies.brainstorms(profile, attempts)}
    known: set[str] = set()
    for item, line in first:
        known.add(line["custom_id"])
        if line["custom_id"] in lists:
            _count(plan, item, line, store, meter)
    for item, line in request_bodies.examples(larger, tasks, attempts):
        if item is None or line is None:
            continue
        known.add(line["custom_id"])
        if item.number < g.examples:
            _count(plan, item, line, store, meter)
    return known


def _count(plan: Plan, item, line: dict, store: ReplyStore, meter: cost.Meter) -> None:
    plan.requests += 1
    if line["custom_id"] in store:
        plan.stored += 1
        return
    body, g = line["body"], plan.profile.generate
    tokens = cost.expected_tokens(item, body, g)
    plan.tokens += sum(tokens)
    plan.usd_at_most += meter.worst(line)
    own = meter.own.get(body["model"])
    plan.usd_expected += cost.price(body["model"], *tokens, meter.batch, own) or 0.0


def _settings(profile: Profile) -> dict[str, Any]:
    g = profile.generate.model_dump(mode="json", exclude=set(ELSEWHERE))
    prompts = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(items.PROMPTS.iterdir()))).hexdigest()
    named = {f"generate.{key}": value for key, value in g.items()}
    return {"seed": profile.seed, "the wording of the prompts": prompts[:12]} | named


def note(profile: Profile, folder: Path) -> None:
    """Remember with which settings requests are sent, and for how many examples at most."""
    path = folder / FOLDER / "asked.json"
    before, now = _asked(folder), _settings(profile)
    same = before.get("settings") == now
    examples = max(profile.generate.examples, before.get("examples", 0) if same else 0)
    write_json(path, {"settings": now, "examples": examples})
