"""The claims ledger: what the paper says (claims.yaml) against what a run measured.

Reads results only. A claim holds, does not, or cannot be judged from this run: for want of a measurement or
of a second seed, or because it is "not at this scale", and then with what it would need. The sentence beside
the verdict has the numbers that decided it.
"""

from __future__ import annotations

from functools import cache
from math import sqrt
from pathlib import Path
from statistics import fmean

import pandas as pd

from synthembed import paper
from synthembed.evaluation import intervals
from synthembed.ground.files import read_yaml
from synthembed.report.evidence import Evidence, Find, evidence_of
from synthembed.report.results import Results
from synthembed.report.words.labels import SYSTEM_NAMES

PACKAGE_DATA = ("claims.yaml",)  # read here, and so part of the code's fingerprint

HOLDS, FAILS, OPEN, SCALE = "holds", "does not", "cannot be judged here", "not at this scale"
# What a reader is told of a claim, at a glance.
BADGES = {HOLDS: "shown here", OPEN: "not shown here", SCALE: "not at this scale", FAILS: "contradicted here"}
FLOOR = 5.0  # points above chance that the better side of a comparison must have


@cache
def load() -> list[dict]:
    return read_yaml(Path(__file__).parent / "claims.yaml")


def ledger(results: Results) -> list[dict]:
    """Every claim with its verdict and the evidence in a sentence."""
    find = evidence_of(results)
    return [judge(claim, find) for claim in load()]


def by_badge(ledger: list[dict]) -> dict[str, list[str]]:
    """badge → the claims (ids) that have it, without badges that none has."""
    found = {badge: [c["id"] for c in ledger if c["verdict"] == v] for v, badge in BADGES.items()}
    return {badge: ids for badge, ids in found.items() if ids}


def frame(runs: list[Results], ledgers: list[list[dict]] | None = None) -> pd.DataFrame:
    """The ledgers of the runs, side by side; ``ledgers`` if they were made before."""
    rows = [
        {"claim": c["claim"], "where": c["where"], **({"run": r.name} if len(runs) > 1 else {}),
         "verdict": c["verdict"], "evidence": c["evidence"]}
        for claims in zip(*(ledgers or map(ledger, runs)), strict=True)
        for r, c in zip(runs, claims, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def judge(claim: dict, find: Find) -> dict:
    """The claim with ``verdict`` and ``evidence``; ``find`` gives a quantity by name, or None.

    All of ``tests`` must hold. Those of ``also`` may refute, and are said if they were measured. ``bases`` is
    the same effect on other bases, as far as it was measured.
    """
    if missing := _needs(claim.get("needs"), find):
        verdict, evidence = SCALE, f"{missing}; needed: {claim['needs']['say']}."
    else:
        must = [_test(test, find) for test in claim["tests"]]
        may = [_test(test, find) for test in claim.get("also", []) if find(test["left"])]
        outcomes = [outcome for outcome, _ in must if outcome != SCALE]
        refuted = FAILS in outcomes or FAILS in [outcome for outcome, _ in may]
        verdict = FAILS if refuted else OPEN if OPEN in outcomes else HOLDS
        evidence = "; ".join(dict.fromkeys(sentence for _, sentence in [*must, *may])) + "."
        if refuted and (stand_in := find(claim["stands"]) if "stands" in claim else None):
            verdict, evidence = OPEN, f"{evidence[:-1]}; {stand_in.said}."
    measured = {name: found for name, q in claim.get("bases", {}).items() if (found := find(q))}
    for name, found in measured.items():
        evidence += f" On {name}: {found.value:+z.1f}{_bounds(found.interval)}."
    return {k: claim[k] for k in ("id", "claim", "where", "artefacts")} | {
        "verdict": verdict,
        "evidence": evidence,
        "bases": {name: found.value for name, found in measured.items()},
    }


def _bounds(interval: dict | None) -> str:
    if not interval or interval.get("low") is None:
        return ""
    why = f", {interval['why']}" if interval.get("why") else ""
    return f" [{interval['low']:+z.1f}, {interval['high']:+z.1f}]{why}"


def _needs(needs: dict | None, find: Find) -> str | None:
    """In what a run falls short of what the claim is about, in words."""
    if not needs:
        return None
    name = needs.get("comparable") or needs["left"]
    found = find(name)
    if found is None:
        return f"not measured: {_name(name)}"
    if "comparable" in needs and not found.comparable:
        return f"{_name(name)} was measured on {found.benchmark} and does not compare"
    if found.value < needs.get("at least", found.value):
        return f"{_name(name)}: {found.value:,.0f}, of {needs['at least']:,}"
    return None


def _test(test: dict, find: Find) -> tuple[str, str]:
    """(outcome, sentence) of one comparison."""
    right_given, by = test.get("right", 0), test.get("by", 0)
    left, right = _mean(test["left"], find), _mean(right_given, find)
    if missing := [n for n, e in ((test["left"], left), (right_given, right)) if e is None]:
        if "scale" in test:
            return SCALE, f"{SCALE}: {test['scale']}"
        return OPEN, f"not measured: {' and '.join(_name(n) for n in missing)}"
    named, against = left.said or _name(test["left"]), right.said or _name(right_given)
    both = f"{named} and {against}"
    if None not in (left.benchmark, right.benchmark) and left.benchmark != right.benchmark:
        return OPEN, f"{both} are of different benchmarks"
    if None not in (left.budget, right.budget) and left.budget != right.budget:
        return OPEN, f"{both} were trained at different budgets"
    difference = left.value - right.value
    low, high, why, remark = _interval(left, right)
    if floor := _at_chance(left, right):
        why, remark = "chance", floor
    outcome = OPEN if why else _outcome(test["is"], low, high, by)
    if isinstance(right_given, (int, float)):
        bound = right.value + by
        said = f"{named} is {_figure(left.value)}, {_words(test['is'], bound)}"
    else:
        said = (
            f"{named} {_figure(left.value)}, {against} {_figure(right.value)}: "
            f"difference {difference:+z.1f}, {_words(test['is'], by)}"
        )
    if outcome == OPEN and not why:
        said += f", within noise (95 % from {low:+z.1f} to {high:+z.1f})"
    return outcome, said + (f"; {remark}" if remark else "")


def _at_chance(left: Evidence, right: Evidence) -> str | None:
    """That no side of a comparison is well above chance, where a difference of 0 says nothing."""
    levels = [e.level for e in (left, right) if e.level is not None]
    chances = [e.chance for e in (left, right) if e.chance is not None]
    if not levels or not chances or max(levels) >= max(chances) + FLOOR:
        return None
    return f"at chance level ({max(levels):.1f}, chance {max(chances):.1f}), which decides nothing"


ONE_SEED = "one seed: no interval of training"
THIS_ONE = "one seed: of this training alone"


def _interval(left: Evidence, right: Evidence) -> tuple[float, float, str | None, str | None]:
    """Both ends of the difference's interval, why nothing can be judged by it, and what to say of it.

    Where both kinds were measured, "on this benchmark" decides, as the paper speaks of its 56 tasks, and the
    other one is said beside it.

    A difference of two trainings that were run once cannot be judged. A trained system against one that
    was not trained here can: it shows what a training can do, not that it would do so again, and the
    sentence says that.
    """
    difference, found = left.value - right.value, left.interval
    if not found and left.rows and right.rows:
        rows = _sides(left.rows, right.rows)
        found = intervals.interval(rows, "left", "right", categories=None)
    if not found:
        noise = sqrt(sum(e.noise**2 for e in (left, right) if e.noise is not None))
        return difference - noise, difference + noise, None, None
    elsewhere, here = found, found.get(intervals.BENCHMARK)
    found = here if here and "texts" in here["covers"] else found
    why, trainings = found.get("why"), found.get("trainings", 2)
    once = trainings and (why == "one seed" or found.get("seeds") == 1)
    if why in (None, "one seed"):
        why = "one seed" if once and trainings > 1 else None
    remarks = [ONE_SEED if trainings > 1 else THIS_ONE] if once else []
    if why and why != "one seed":
        remarks.insert(0, f"{why}: no interval")
    if found is not elsewhere and elsewhere["low"] is not None:
        kinds = ((intervals.BENCHMARK, found), (intervals.TASKS, elsewhere))
        remarks.insert(0, ", ".join(f"{k} from {f['low']:+z.1f} to {f['high']:+z.1f}" for k, f in kinds))
    ends = (found["low"], found["high"]) if found["low"] is not None else (difference, difference)
    return *ends, why, "; ".join(remarks) or None


def _sides(left: list[dict], right: list[dict]) -> list[dict]:
    """Rows of two systems named by their sides; the languages of a single task stand as tasks."""
    single = len({r["task"] for r in [*left, *right]}) == 1
    return [
        row | {"system": side, "task": f"{row['task']}/{row['language']}" if single else row["task"]}
        for side, rows in (("left", left), ("right", right))
        for row in rows
    ]


def _outcome(kind: str, low: float, high: float, by: float) -> str:
    """On which side of its bound the whole interval lies; open if it reaches over the bound."""
    near = 1e-9
    if kind == "within":
        holds, fails = -by - near <= low and high <= by + near, low > by + near or high < -by - near
    elif kind == "at least":
        holds, fails = low >= by - near, high < by - near
    else:
        holds, fails = high <= by + near, low > by + near
    return HOLDS if holds else FAILS if fails else OPEN


def _mean(names, find: Find) -> Evidence | None:
    if isinstance(names, (int, float)):
        return Evidence(names)
    if isinstance(names, str):
        return find(names)
    found = [find(n) for n in names]
    if None in found or len({e.benchmark for e in found}) > 1:
        return None
    noises = [e.noise for e in found if e.noise is not None]
    noise = sqrt(sum(n**2 for n in noises)) / len(found) if noises else None
    comparable = all(e.comparable for e in found)
    rows = [row for e in found for row in e.rows or ()]
    value = fmean(e.value for e in found)
    return Evidence(value, noise, found[0].benchmark, comparable, found[0].budget, rows=rows)


def _words(kind: str, bound: float) -> str:
    return f"within ±{bound:g} wanted" if kind == "within" else f"{kind} {bound:g} wanted"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.1f}"


def _name(quantity) -> str:
    """A quantity as a sentence has it: "w/ synthetic data only (Table 1, Avg)"."""
    if isinstance(quantity, list):
        *_, columns = zip(*(q.rpartition("/") for q in quantity), strict=True)
        return _name(f"{quantity[0].rpartition('/')[0]}/{' '.join(columns)}")
    kind, _, name = str(quantity).partition(" ")
    if kind == "cell":
        cell = _cells()[name]
        return f"{paper.short(cell.row)} ({_titled(cell.artefact)}, {cell.column})"
    if kind == "system":
        system, artefact, column = name.rsplit("/", 2)
        return f"{SYSTEM_NAMES.get(system, system)} ({_titled(artefact)}, {column})"
    named = {
        "data": name.replace("_", " "),
        "delta": f"the change {name}",
        "change": "the change from {1} to {0}".format(*name.split(" from "), ""),
        "passkey": f"passkeys with {name}",
        "lead": "the lead over the multilingual peer in high-resource languages",
        "lag": "how much further low-resource languages are behind the multilingual peer than high-resource ones",
    }
    return named.get(kind, str(quantity))


@cache
def _cells() -> dict[str, paper.Cell]:
    return {c.id: c for a in paper.artefacts() for c in paper.cells(a)}


def _titled(artefact: str) -> str:
    return artefact.replace("table", "Table ").replace("figure", "Figure ")
