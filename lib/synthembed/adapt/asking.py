"""Queries asked of an LLM: recorded, of the small model that comes along, or of any endpoint, for money or not.

What leaves this machine is said before it leaves. Replies are kept as in stage 01: what is stored is never asked
for again, a budget is never exceeded, and what failed is counted and asked for by the next run.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from synthembed.adapt import advice, queries, selection
from synthembed.adapt.queries import Asked
from synthembed.adapt.reading.passages import Passage
from synthembed.corpus.example import Drops, Example
from synthembed.corpus.texts import normalised
from synthembed.generation import two_steps
from synthembed.generation.cost import Meter, own_prices, price
from synthembed.generation.paid import endpoint, plan
from synthembed.generation.paid.ledger import FOLDER, Ledger
from synthembed.generation.parsing import Rejected
from synthembed.generation.reply_store import GenerationStopped, ReplyStore
from synthembed.ground.files import read_lines, write_json
from synthembed.profile.settings import Profile

Generator = Literal["recorded", "embedded", "endpoint"]
RECORDED = "claude"  # in profiles/adapt.yaml: who wrote the recorded replies of the example
REMEDY = (
    "say who writes the queries: --endpoint URL --llm NAME for any OpenAI-compatible endpoint (http://127.0.0.1:11434/v1 is "
    "an Ollama of this machine; one that costs money wants --budget USD as well), or --generator embedded for the small "
    "model that comes along, whose queries are poor"
)


@dataclass
class Written:
    """What came back: examples in the order of the requests, what became none, what failed, USD spent."""

    examples: list[Example]
    asked: dict[str, Asked]
    drops: Drops
    failures: dict[str, int] = field(default_factory=dict)
    new: int = 0
    usd: float = 0.0


@contextlib.contextmanager
def generator(profile: Profile, which: Generator) -> Iterator[Profile]:
    """The profile as its ``generate`` section is for a generator; the embedded model runs while it is used."""
    if which == "recorded":
        yield profile.with_overrides({"generate.backend": "recorded"})
    elif which == "endpoint":
        backend = "live" if profile.generate.backend == "recorded" else profile.generate.backend
        yield profile.with_overrides({"generate.backend": backend})
    else:
        from synthembed.generation import local_server

        with local_server.server(context=8192) as url:
            yield profile.with_overrides({
                "generate.backend": "live", "generate.models": {local_server.MODEL: 1.0}, "generate.base_url": url,
                "generate.concurrency": 4, "generate.max_tokens": 400, "generate.budget_usd": None,
                "generate.key_variable": "SYNTHEMBED_NO_KEY", "generate.response_format": "json_schema",
                "generate.failures_at_most": 0.5,
            })  # fmt: skip


def pointed_at(profile: Profile, url: str, model: str = "", budget: float | None = None) -> Profile:
    """The profile asking ``model`` at ``url``, for ``budget`` USD at most; the only model of an endpoint needs no name.

    Raises GenerationStopped, naming what the endpoint has, if that does not settle which is meant.
    """
    changes: dict = {"generate.backend": "live"}
    if url:
        changes |= {"generate.base_url": url}
    if budget is not None:
        changes |= {"generate.budget_usd": budget}
    wanted = profile.with_overrides(changes)
    if not model and set(wanted.generate.models) == {RECORDED}:  # nobody has named one
        model = _only_model(wanted)
    return wanted.with_overrides({"generate.models": {model: 1.0}}) if model else wanted


def _only_model(profile: Profile) -> str:
    import openai

    url = endpoint.url_of(profile.generate)
    if not url:
        raise GenerationStopped("name the model that writes the queries: --llm NAME")
    try:
        names = advice.models_of(profile)
    except openai.APIConnectionError:
        raise GenerationStopped(
            f"no server answers at {url}: start it, or name another one with --endpoint (its base URL, often with /v1)"
        ) from None
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        variable = profile.generate.key_variable
        raise GenerationStopped(
            f"{url} refuses the key, which is taken from the variable {variable} ({endpoint.masked(str(error))})"
        ) from None
    except openai.OpenAIError as error:
        said = endpoint.masked(str(error))
        raise GenerationStopped(
            f"{url} does not say which models it has ({said}): name one with --llm, if it is the base URL of an "
            "OpenAI-compatible endpoint (often with /v1)"
        ) from None
    if len(names) != 1:
        there = ", ".join(names[:20]) or "none"
        raise GenerationStopped(f"{url} has {len(names)} models, so name one with --llm: {there}")
    return names[0]


def stored(replies: Path) -> set[str]:
    """The custom_ids of stored replies; a line that a run would mend or name is passed by, as nothing is written here."""
    found = set()
    for text in replies.read_bytes().split(b"\n") if replies.exists() else ():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            found.add(str(json.loads(text)["custom_id"]))
    return found


LEAVES = "THE TEXT OF THESE PASSAGES LEAVES THIS MACHINE"


def announce(profile: Profile, lines: Iterable[dict], stored: Collection[str]) -> str:
    """What will be sent, where to, and what it may cost, in words: before anything leaves this machine."""
    g, lines = profile.generate, list(lines)
    missing = [line for line in lines if line["custom_id"] not in stored]
    there = f"{len(stored):,} replies are stored"
    if missing and (others := len(stored) - (len(lines) - len(missing))):
        there += f" ({others:,} of them to other requests: of other passages, or by another --llm, --task or generate. setting)"
    if g.backend == "recorded" or not missing:
        return f"queries: {len(missing):,} to be {'replayed' if g.backend == 'recorded' else 'asked for'}, {there}"
    remote = []
    for model in (m for m, share in g.models.items() if share):
        own = g.of(model)
        place = f"{model} at {endpoint.url_of(own) or 'the OpenAI API'}"
        if not endpoint.on_this_machine(own):
            remote.append(place)
        elif price(model, 0, 0, False, own.price) is not None:
            remote.append(f"{place} (a server of this machine that seems to hand them on)")
    meter = Meter(None, g.models, g.backend == "batch", own_prices(g))
    most = sum(meter.worst(line) for line in missing)
    size = sum(len(line["body"]["messages"][0]["content"]) for line in missing)
    if not remote:
        return f"queries: {len(missing):,} to be asked for, {there}; nothing of the documents leaves this machine"
    cost = f"at most {most:,.2f} USD (budget {g.budget_usd})" if most else "the price is not known"
    return (
        f"queries: {len(missing):,} to be asked for, {there}. {LEAVES}: "
        f"{size:,} characters go to {', '.join(remote)}; {cost}"
    )


def ask(
    passages: list[Passage],
    profile: Profile,
    folder: Path,
    each: int = 1,
    task: str = queries.TASK,
    say=print,
    agree: Callable[[], bool] | None = None,
) -> Written:
    """The queries of ``passages``, in ``folder``: requests.jsonl, replies.jsonl, ledger/, usage.json.

    ``agree`` is called once it was said that texts leave this machine, before any does; False sends none. Without it
    the budget, which a remote endpoint wants, is agreement enough.

    Raises GenerationStopped, with what came stored, if the endpoint or the budget ends it, if none of the first
    replies can be used, or if more fail than generate.failures_at_most; plan.NotAllowed, with nothing sent, if money
    would be spent without a budget, or nobody agreed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paid = profile.generate.backend != "recorded"
    try:
        plan.allow(profile)
    except plan.NotAllowed:
        raise plan.NotAllowed(
            f"{', '.join(m for m, share in profile.generate.models.items() if share)} may cost money, and no budget is set: "
            "--budget USD (--plan says what it may cost at most), or --set generate.no_budget=true"
        ) from None
    asked = queries.write(folder / "requests.jsonl", queries.requests(passages, profile, each, task))
    store, ledger = ReplyStore(folder / "replies.jsonl"), None
    try:
        before = len(store.ids)
        told = announce(profile, read_lines(folder / "requests.jsonl"), store.ids)
        say(told)
        if LEAVES in told and agree is not None and not agree():
            raise plan.NotAllowed("nothing was sent")
        ledger = Ledger(folder / FOLDER, sync=profile.generate.budget_usd is not None) if paid else None
        meter = Meter(
            profile.generate.budget_usd if paid else None, profile.generate.models,
            profile.generate.backend == "batch", own_prices(profile.generate), ledger,
        )  # fmt: skip
        for line in store.lines():
            meter.add(line)
        failures = _ask(folder / "requests.jsonl", profile, store, meter, asked, task)
    finally:
        store.close()
        if ledger:
            ledger.close()
    written = _read(folder / "replies.jsonl", asked, task)
    written.failures, written.new, written.usd = dict(+failures), len(store.ids) - before, meter.spent
    write_json(folder / "usage.json", {
        "asked": len(asked), "new": written.new, "failures": written.failures, "spent_usd": round(meter.spent, 4),
        "unusable": dict(written.drops.counts),
    })  # fmt: skip
    failed = sum(n for reason, n in failures.items() if reason not in two_steps.STRAY)
    if failed > profile.generate.failures_at_most * len(asked):
        raise GenerationStopped(
            f"{failed:,} of {len(asked):,} requests have no reply ({written.failures}"
            f"{'; what the endpoint said of them stands above' if paid else ''}). What came is stored: run again "
            f"to ask for the rest{'; or ' + REMEDY if not paid else ''}"
        )
    return written


def _ask(path: Path, profile: Profile, store: ReplyStore, meter: Meter, asked: dict, task: str) -> Counter:
    first: list[Example | str] = []  # or why it is none

    def look(reply: dict) -> None:
        """Stop if none of the first replies can be used, before all are paid for."""
        if len(first) >= two_steps.FIRST:
            return
        try:
            first.append(queries.example(reply, asked[reply["custom_id"]], task))
        except Rejected as reason:
            first.append(str(reason))
        if len(first) == two_steps.FIRST and all(reasons := _faults(first)):
            raise GenerationStopped(
                f"none of the first {two_steps.FIRST} replies can be used ({dict(Counter(reasons))}), so that nothing "
                f"more is asked; what came is in {path.with_name('replies.jsonl')}"
            )

    try:
        return two_steps.ask(path, profile, store, meter, look)
    except GenerationStopped as stopped:
        if profile.generate.backend == "recorded":
            raise GenerationStopped(f"no reply is recorded for these documents; {REMEDY}") from None
        if not (remedy := advice.on(str(stopped), profile)):
            raise
        raise GenerationStopped(f"{stopped}\n{remedy}") from None


def _faults(first: list[Example | str]) -> list[str]:
    """What is wrong with each reply, "" if nothing is: it is no example, or no filter would let it pass."""
    often = selection.repeated([one for one in first if isinstance(one, Example)])
    return [
        one
        if isinstance(one, str)
        else selection.fault(one) or selection.REPEATED * (normalised(one.query) in often)
        for one in first
    ]


def _read(replies: Path, asked: dict[str, Asked], task: str) -> Written:
    """The examples among stored replies, in the order of the requests; those of former passages are passed by."""
    drops, found = Drops(), {}
    for line in read_lines(replies):
        if (one := asked.get(line["custom_id"])) is None:
            continue
        try:
            found[one.custom_id] = queries.example(line, one, task)
        except Rejected as reason:
            drops.add(str(reason), str(line.get("response"))[:300])
    return Written([found[key] for key in asked if key in found], asked, drops)
