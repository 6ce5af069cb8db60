"""The finding of a run in five sentences, each from its numbers: what ran, what it did, beside whom, by what
it was learnt, and what this cannot show."""

from __future__ import annotations

from synthembed.evaluation.intervals import BENCHMARK
from synthembed.report import claims
from synthembed.report.results import ABLATIONS, EVALUATION, Results
from synthembed.report.words import hero, labels


def sentences(results: Results, ledger: list[dict]) -> list[str]:
    """Five sentences, fewer where a stage has not run; every one can say that it did not work."""
    lines = hero.lines(results)
    said = [
        _ran(results),
        _did(results, lines[0]) if lines else "Base and trained model have not both been evaluated.",
        _beside(results),
        _control(results),
        _limits(results, ledger),
    ]
    return [s for s in said if s]


def _ran(results: Results) -> str:
    record, data = results.stage("03_train"), results.statistics
    if not record:
        return "No model has been trained in this run."
    steps = f" for {record['steps']:,} steps" if record.get("steps") else ""
    count = record.get("data", {}).get("examples") or (data or {}).get("examples")
    sizes = [f"{count:,} examples"] if count else []
    if languages := (data or {}).get("language_count"):
        sizes.append(f"{languages} languages")
    sizes = f" ({', '.join(sizes)})" if sizes else ""
    setting = labels.data_name(results, results.setting())
    return f"{labels.base_of(results)}, was trained{steps} on {setting}{sizes}."


def _did(results: Results, average: hero.Line) -> str:
    gain = average.trained - average.base
    here = (results.scores[EVALUATION].intervals.get("base") or {}).get(BENCHMARK, {})
    known = here.get("low") is not None  # without texts' scores and a second seed it has no ends
    bounds = f" (95 % on these texts: {here['low']:+z.1f} to {here['high']:+z.1f})" if known else ""
    chance = "" if average.chance is None else f"; random vectors have {average.chance:.1f}"
    verb = "rose" if gain > 0 else "did not rise: it went"
    return (
        f"Its average over {average.tasks} tasks in English {verb} from {average.base:.1f} to "
        f"{average.trained:.1f}, by {gain:+z.1f} points{bounds}{chance}."
    )


def _beside(results: Results) -> str:
    """Peers, by the interval on this benchmark; a tie is called one."""
    found = results.scores[EVALUATION].intervals
    said = []
    for system in (s for s in found if s not in hero.NOT_PEERS):
        whole, here = found[system], found[system].get(BENCHMARK) or found[system]
        known = here["low"] is not None
        open_ = known and here["low"] <= 0 <= here["high"]
        place = "level with" if open_ else "ahead of" if here["delta"] > 0 else "behind"
        tasks = f" on the {whole['tasks']} tasks that it can do" if whole["tasks"] != _most(found) else ""
        said.append(
            f"{place} {labels.SYSTEM_NAMES.get(system, system)}{tasks} ({here['delta']:+z.1f}{'' if known else ', no interval'})"
        )
    if not said:
        return "No peer was measured beside it."
    *first, last = said
    return f"On these texts it is {', '.join(first)}{' and ' if first else ''}{last}."


def _most(intervals: dict[str, dict]) -> int:
    return max(i["tasks"] for i in intervals.values())


def _control(results: Results) -> str:
    interval = results.scores[ABLATIONS].intervals.get("shuffled")
    if not interval:
        return "The control with shuffled pairs was not run, so nothing says that the pairing taught it."
    here = interval.get(BENCHMARK) or interval
    if here["low"] is not None and here["high"] < 0:
        return (
            f"Trained on the same texts with every query given another one's documents it loses {-here['delta']:.1f} "
            "points: what it learnt is which texts belong together."
        )
    return (
        f"Trained on the same texts with every query given another one's documents it changes by {here['delta']:+z.1f} "
        "points: this run does not show that the pairing is what it learnt."
    )


def _limits(results: Results, ledger: list[dict]) -> str:
    told = ", ".join(f"{len(ids)} {badge}" for badge, ids in claims.by_badge(ledger).items())
    seeds = len(results.stage("03_train").get("seeds", [])) or 1
    once = (
        "one training, so whether another seed repeats this is not known"
        if seeds == 1
        else f"{seeds} trainings"
    )
    suite = (
        "; the suite was written for this project and its scores compare with no published one"
        if labels.SUITE in results.scores[EVALUATION].benchmarks
        else ""
    )
    return f"Of the paper's {len(ledger)} claims {told}; this is {once}{suite}."
