"""Asking again for what was answered, but of no use: ``synthembed reask``.

A reply is never taken out of the store. Its item gets another attempt: the same request with another seed,
and so with a custom_id of its own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from synthembed.generation import request_bodies
from synthembed.generation.paid.ledger import FOLDER, noted
from synthembed.generation.parsing import Rejected, parse
from synthembed.generation.reply_store import GenerationStopped
from synthembed.ground.files import read_lines, write_json
from synthembed.profile.settings import Profile


def attempts(folder: Path) -> dict[str, int]:
    """custom_id of an item's first request → how often it is asked for anew."""
    return noted(folder / "again.json", {}, "unusable replies are then reasked anew").get("attempts", {})


def replaced(folder: Path) -> set[str]:
    """custom_ids of the stored replies that were asked for anew."""
    return set(noted(folder / "again.json", {}).get("replaced", ()))


def unusable(folder: Path) -> dict[str, list[str]]:
    """Reason → custom_ids of the stored replies to a run's present requests that cannot be used."""
    from synthembed.generation.two_steps import read_items

    if not (folder / "items.jsonl").exists():
        raise GenerationStopped(f"{folder.parent.name}/{folder.name} has no items.jsonl: run stage 01 first")
    items, found = read_items(folder), {}
    for line in read_lines(folder / "replies.jsonl"):
        if item := items.get(line["custom_id"]):
            try:
                parse(line, item)
            except Rejected as reason:
                found.setdefault(str(reason), []).append(line["custom_id"])
    return found


def reask(profile: Profile, folder: Path, reasons: list[str]) -> str:
    """Ask again for the replies of stage 01 in ``folder`` that are unusable for one of ``reasons`` (all, if
    "all" is among them); returns what came of it. Raises GenerationStopped with the reasons that there are."""
    from synthembed.generation import two_steps
    from synthembed.generation.paid import plan

    found = unusable(folder)
    told = ", ".join(f"{len(ids):,} {reason!r}" for reason, ids in found.items()) or "none"
    unknown = [r for r in reasons if r != "all" and r not in found]
    if unknown or not reasons:
        raise GenerationStopped(f"unusable replies by reason: {told}; name reasons with --reason, or 'all'")
    if profile.generate.backend == "recorded":
        raise GenerationStopped(
            "recorded replies cannot be asked for again: use generate.backend=live or batch"
        )
    plan.allow(profile)
    chosen = [i for reason, ids in found.items() if reason in reasons or "all" in reasons for i in ids]
    _mark(profile, folder, chosen)
    usage = two_steps.generate(profile, folder)
    left = Counter({reason: len(ids) for reason, ids in unusable(folder).items()})
    return (
        f"{len(chosen):,} asked again; unusable now: {dict(left) or 'none'}; failures: {usage['failures'] or 'none'}; "
        f"{usage['spent_usd']:,.2f} USD spent in all. synthembed run goes on with what came"
    )


def _mark(profile: Profile, folder: Path, chosen: list[str]) -> None:
    from synthembed.generation.two_steps import read_items

    items = read_items(folder)
    counts, old = Counter(attempts(folder / FOLDER)), replaced(folder / FOLDER)
    for custom_id in chosen:
        first = request_bodies.line_of(items[custom_id], profile.generate, profile.seed)["custom_id"]
        counts[first] += 1
    (folder / FOLDER).mkdir(exist_ok=True)
    data = {"attempts": dict(counts), "replaced": sorted(old | set(chosen))}
    write_json(folder / FOLDER / "again.json", data)
