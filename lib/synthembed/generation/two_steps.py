"""Requests → replies, in the paper's two steps (Sec. 3.1): recorded, live or batch, in one format.

Replies are OpenAI Batch output lines, known by the hash of their request's body. What is stored is
never asked for again; what failed is counted under a named reason and asked for by the next run.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from synthembed.generation import request_bodies
from synthembed.generation.cost import Meter, own_prices, tokens_in
from synthembed.generation.items import SCHEMAS, Item
from synthembed.generation.paid import again, plan
from synthembed.generation.paid.ledger import FOLDER, Ledger
from synthembed.generation.parsing import Rejected, content_of, parse, read, tasks_of
from synthembed.generation.reply_store import GenerationStopped, ReplyStore
from synthembed.ground.files import PACKAGE, read_lines, write_json
from synthembed.profile.generate_settings import Generate
from synthembed.profile.settings import Profile
from synthembed.profile.taxonomy import Family

PACKAGE_DATA = ("../recordings/*",)  # read here, and so part of the code's fingerprint

RECORDINGS = PACKAGE / "recordings"

# Reasons among the failures that count no request of ours, and so leave none without an answer.
STRAY = ("unknown custom_id", "output line is not JSON")
NO_REQUEST = ("no brainstormed task", *STRAY)

FIRST = 20  # replies, of which one at least must be of use
FEW_LISTS = 3


def generate(profile: Profile, folder: Path) -> dict:
    """Both steps into ``folder``: requests.jsonl, items.jsonl, replies.jsonl, usage.json.

    Resumes: only what replies.jsonl lacks is asked for. Returns the content of usage.json, whose
    "incomplete" says so if more failed than generate.failures_at_most. Raises GenerationStopped, with
    usage.json written, if the endpoint or the budget ends the run, and plan.NotAllowed, with nothing
    sent, if money would be spent that nobody has agreed to.
    """
    g = profile.generate
    paid = g.backend != "recorded"
    plan.allow(profile, strictly=False)
    store = ReplyStore(folder / "replies.jsonl")
    try:
        return _generate(profile, folder, store, paid)
    finally:
        store.close()


def _generate(profile: Profile, folder: Path, store: ReplyStore, paid: bool) -> dict:
    g = profile.generate
    ledger = None
    if paid:
        plan.plan_of(profile, folder, store).check()
        ledger = Ledger(folder / FOLDER, sync=g.budget_usd is not None)
        plan.note(profile, folder)
    attempts = again.attempts(folder / FOLDER)
    meter = Meter(g.budget_usd if paid else None, g.models, g.backend == "batch", own_prices(g), ledger)
    for line in store.lines():
        meter.add(line)
    failures: Counter = Counter()
    first = list(request_bodies.brainstorms(profile, attempts))
    try:
        _write(folder, "w", first)
        ask(folder / "requests.jsonl", profile, store, meter)  # what fails is asked for again below
        tasks = brainstormed(first, store)
        if paid:
            _some_tasks(first, tasks, store)
        failures["no brainstormed task"] += _write(
            folder, "a", request_bodies.examples(profile, tasks, attempts)
        )
        failures += ask(folder / "requests.jsonl", profile, store, meter)
    finally:
        store.close()
        if ledger:
            ledger.close()
        usage = usage_of(folder, meter) | {
            "failures": dict(+failures),
            "spent_usd": round(meter.spent, 4),
            "unconfirmed_usd": round(meter.unconfirmed, 4),
        }
        usage["incomplete"] = _incomplete(usage, folder, g) if paid else ""
        write_json(folder / "usage.json", usage)
    return usage


def _some_tasks(first: list[tuple[Item, dict]], tasks: dict, store: ReplyStore) -> None:
    """Stop before step 2 if step 1 was answered with nothing that can be used."""
    answered = sum(line["custom_id"] in store for _, line in first)
    if answered >= FEW_LISTS and not tasks:
        raise GenerationStopped(
            f"none of the {answered} lists of tasks can be used, so that step 2 has not begun: look at "
            "replies.jsonl, change generate.models, max_tokens or response_format, and see synthembed reask"
        )


def _incomplete(usage: dict, folder: Path, settings: Generate) -> str:
    """That more requests failed than generate.failures_at_most, in words; empty if not."""
    failed = sum(n for reason, n in usage["failures"].items() if reason not in STRAY)
    if not failed:
        return ""
    wanted = sum(1 for _ in open(folder / "requests.jsonl", "rb"))
    wanted += usage["failures"].get("no brainstormed task", 0)
    if failed <= settings.failures_at_most * wanted:
        return ""
    reasons = ", ".join(f"{reason}: {n:,}" for reason, n in usage["failures"].items())
    return (
        f"incomplete: {failed:,} of {wanted:,} requests have no reply ({reasons}), more than "
        f"generate.failures_at_most = {settings.failures_at_most:.0%}. What came is stored; run again to ask "
        "for what is missing"
    )


def complete(usage: dict) -> None:
    """Raise GenerationStopped if a run was incomplete, so that its stage is not taken for finished."""
    if usage.get("incomplete"):
        raise GenerationStopped(usage["incomplete"])


def _write(folder: Path, mode: str, pairs: Iterable[tuple[Item | None, dict | None]]) -> int:
    """Requests and their items to disk, streaming; returns how many items have no request."""
    skipped = 0
    with (
        open(folder / "requests.jsonl", mode, encoding="utf-8") as out,
        open(folder / "items.jsonl", mode, encoding="utf-8") as about,
    ):
        for item, line in pairs:
            if item is None:
                skipped += 1
                continue
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            record = {"custom_id": line["custom_id"], **asdict(item)}
            about.write(json.dumps(record, ensure_ascii=False) + "\n")
    return skipped


def ask(
    path: Path, profile: Profile, store: ReplyStore, meter: Meter, look: Callable[[dict], None] | None = None
) -> Counter:
    """Get replies for the requests in ``path`` that have none; returns failures by reason. ``look`` is shown
    each reply as it is stored, and may stop the run."""
    look = look or _Look(path.parent)
    settings = profile.generate
    missing = sum(1 for _ in store.missing(path))
    if not missing:
        return Counter()
    if settings.backend == "recorded":
        return recorded(path, store)
    if settings.backend == "live":
        from synthembed.generation import live

        return live.ask(store.missing(path), missing, settings, store, meter, look)
    from synthembed.generation import openai_batch

    return openai_batch.ask(path, settings, store, meter, look)


class _Look:
    """Sees the replies of a run as they are stored, and stops it if none of the first can be used."""

    def __init__(self, folder: Path):
        self.folder, self.first = folder, []

    def __call__(self, reply: dict) -> None:
        if len(self.first) >= FIRST:
            return
        self.first.append(reply)
        if len(self.first) < FIRST:
            return
        items, reasons = read_items(self.folder), Counter()
        for line in self.first:
            try:
                parse(line, items[line["custom_id"]])
            except Rejected as reason:
                reasons[str(reason)] += 1
        if reasons.total() == FIRST:
            told = ", ".join(f"{reason}: {n}" for reason, n in reasons.items())
            body = json.dumps(self.first[0]["response"]["body"]["choices"])[:300]
            raise GenerationStopped(
                f"none of the first {FIRST} replies can be used ({told}), so that nothing more is asked. One "
                f"of them: {body}. Change generate.models, max_tokens or response_format"
            )


def recorded(path: Path, store: ReplyStore) -> Counter:
    """Replay the replies that come with the library (RECORDINGS) by their requests' hashes."""
    wanted = {line["custom_id"] for line in store.missing(path)}
    count = len(wanted)
    for file in sorted(RECORDINGS.glob("*.jsonl*")):
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
            for text in lines:
                reply = json.loads(text)
                if reply["custom_id"] in wanted and store.append(reply):
                    wanted.discard(reply["custom_id"])
    if len(wanted) == count and not store.ids:
        raise GenerationStopped(
            "no reply is recorded for these requests: the profile's generate section (or its seed) "
            "differs from the recorded run's. Use generate.backend=live or batch."
        )
    return Counter({"not recorded": len(wanted)})


def brainstormed(pairs: list[tuple[Item, dict]], store: ReplyStore) -> dict[tuple[Family, int], list[str]]:
    """(family, list number) → tasks, from step 1's stored replies; unusable ones are left out."""
    items = {line["custom_id"]: item for item, line in pairs}
    tasks = {}
    for line in store.lines():
        if item := items.get(line["custom_id"]):
            try:
                tasks[item.family, item.number] = tasks_of(line, item)
            except Rejected:
                continue  # counted once, as "no brainstormed task" of the items that miss it
    return tasks


def read_items(folder: Path) -> dict[str, Item]:
    """custom_id → Item, of both steps, from items.jsonl."""
    found = {}
    for data in read_lines(folder / "items.jsonl"):
        custom_id = data.pop("custom_id")
        data["placeholders"] = tuple(map(tuple, data["placeholders"]))
        found[custom_id] = Item(**data)
    return found


def first_valid(folder: Path, items: dict[str, Item], *wishes: Callable[[Item], bool]) -> tuple[Item, dict]:
    """An item and its stored reply, to look at: the first that parses and fits the first wish that any
    fits. Raises GenerationStopped if no reply does."""
    for wish in wishes:
        for line in read_lines(folder / "replies.jsonl"):
            item = items.get(line["custom_id"])
            if item is None or not wish(item):
                continue
            try:
                parse(line, item)
            except Rejected:
                continue
            return item, line
    raise GenerationStopped("no usable reply of that kind is stored: look at usage.json for the failures")


def usage_of(folder: Path, meter: Meter) -> dict:
    """Replies, tokens and USD per model, family and language, as the endpoint reported them, and the replies
    that cannot be used by reason.

    Recorded replies report no usage and are counted as such.
    """
    about = {}
    if (folder / "items.jsonl").exists():
        for item in read_lines(folder / "items.jsonl"):
            about[item["custom_id"]] = (item["family"], item["language"], item["step"])
    groups: dict[str, dict[str, Counter]] = {"models": {}, "families": {}, "languages": {}}
    unusable: Counter = Counter()
    for line in read_lines(folder / "replies.jsonl"):
        body = line["response"]["body"]
        prompt, completion = tokens_in(body.get("usage"))
        family, language, step = about.get(line["custom_id"], ("unknown", "unknown", "example"))
        kind = "brainstorm" if step == "brainstorm" else family
        if kind in SCHEMAS:
            try:
                read(content_of(line), SCHEMAS[kind])
            except Rejected as reason:
                unusable[str(reason)] += 1
        keys = (str(body.get("model", "unknown")), kind, language)
        for group, key in zip(groups.values(), keys, strict=True):
            counts = group.setdefault(key, Counter())
            counts["replies"] += 1
            counts["replies_without_usage"] += not prompt + completion
            counts["prompt_tokens"] += int(prompt)
            counts["completion_tokens"] += int(completion)
            counts["usd"] += meter.cost(line)
    for counts in (c for group in groups.values() for c in group.values()):
        counts["usd"] = round(counts["usd"], 6)
    found = {name: {key: dict(c) for key, c in group.items()} for name, group in groups.items()}
    return found | {"unusable": dict(unusable)}
