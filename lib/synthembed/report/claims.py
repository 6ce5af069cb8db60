"""The claims ledger: what the paper says (claims.yaml) against what a run measured.

Reads results only. A claim holds, does not, or cannot be judged from this run; the sentence beside the
verdict has the numbers that decided it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import sqrt
from pathlib import Path
from statistics import fmean

import pandas as pd
import yaml
from scipy.special import stdtrit

from synthembed import paper
from synthembed.evaluation import intervals
from synthembed.report.cells import of_cell, passkey_benchmark, passkey_row, passkey_why
from synthembed.report.results import ABLATIONS, EVALUATION, Number, Results, lookup

PACKAGE_DATA = ("claims.yaml",)  # read here, and so part of the code's fingerprint

HOLDS, FAILS, OPEN = "holds", "does not", "cannot be judged here"


@dataclass(frozen=True)
class Evidence:
    """A quantity in points (or a count), with what tells its noise: half a width, its own interval if it is
    a difference, or the rows it is the mean of, which can be set against another's; the benchmark it was
    measured on and the budget of its training if it has any."""

    value: float
    noise: float | None = None
    benchmark: str | None = None
    comparable: bool = True
    budget: str | None = None  # of training, if it says anything
    interval: dict | None = None  # of a difference (intervals.py)
    rows: list[dict] | None = None  # of scores.json


Find = Callable[[str], Evidence | None]


@cache
def load() -> list[dict]:
    return yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text(encoding="utf-8"))


def ledger(results: Results) -> list[dict]:
    """Every claim with its verdict and the evidence in a sentence."""
    return [judge(claim, evidence_of(results)) for claim in load()]


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
    """The claim with ``verdict`` and ``evidence``; ``find`` gives a quantity by name, or None."""
    if missing := _needs(claim.get("needs"), find):
        verdict, evidence = OPEN, missing
    else:
        found = [_test(test, find) for test in claim["tests"]]
        outcomes = [outcome for outcome, _ in found]
        verdict = FAILS if FAILS in outcomes else OPEN if OPEN in outcomes else HOLDS
        evidence = "; ".join(dict.fromkeys(sentence for _, sentence in found)) + "."
    return {k: claim[k] for k in ("id", "claim", "where", "artefacts")} | {
        "verdict": verdict,
        "evidence": evidence,
    }


def _needs(needs: dict | None, find: Find) -> str | None:
    """What is missing for any judgement, in words."""
    if not needs:
        return None
    name = needs.get("comparable") or needs["left"]
    found = find(name)
    if found is None:
        return f"not measured: {_name(name)}."
    if "comparable" in needs and not found.comparable:
        return f"this is about published benchmarks, and {_name(name)} was measured on {found.benchmark}."
    if found.value < needs.get("at least", found.value):
        return f"{_name(name)} is {found.value:,.0f}; only a run of {needs['at least']:,} or more can tell."
    return None


def _test(test: dict, find: Find) -> tuple[str, str]:
    """(outcome, sentence) of one comparison."""
    right_given, by = test.get("right", 0), test.get("by", 0)
    left, right = _mean(test["left"], find), _mean(right_given, find)
    if missing := [n for n, e in ((test["left"], left), (right_given, right)) if e is None]:
        return OPEN, f"not measured: {' and '.join(_name(n) for n in missing)}"
    both = f"{_name(test['left'])} and {_name(right_given)}"
    if None not in (left.benchmark, right.benchmark) and left.benchmark != right.benchmark:
        return OPEN, f"{both} are of different benchmarks"
    if None not in (left.budget, right.budget) and left.budget != right.budget:
        return OPEN, f"{both} were trained at different budgets"
    difference = left.value - right.value
    low, high, why, remark = _interval(left, right)
    outcome = OPEN if why else _outcome(test["is"], low, high, by)
    if isinstance(right_given, (int, float)):
        bound = right.value + by
        said = f"{_name(test['left'])} is {_figure(left.value)}, {_words(test['is'], bound)}"
    else:
        said = (
            f"{_name(test['left'])} {_figure(left.value)}, {_name(right_given)} {_figure(right.value)}: "
            f"difference {difference:+.1f}, {_words(test['is'], by)}"
        )
    if outcome == OPEN and not why:
        said += f", within noise (95 % from {low:+.1f} to {high:+.1f})"
    return outcome, said + (f"; {remark}" if remark else "")


ONE_SEED = "one seed: no interval of training"


def _interval(left: Evidence, right: Evidence) -> tuple[float, float, str | None, str | None]:
    """Both ends of the difference's interval, why nothing can be judged by it, and what to say of it.

    A difference of two trainings that were run once cannot be judged. A trained system against one that
    was not trained here can: it is about this one training, and the sentence says so.
    """
    difference, found = left.value - right.value, left.interval
    trained = left.interval is not None
    if not found and left.rows and right.rows:
        rows = _sides(left.rows, right.rows)
        found = intervals.interval(rows, "left", "right", categories=None)
        trained = any(r.get("seed") is not None for r in rows)
    if not found:
        noise = sqrt(sum(e.noise**2 for e in (left, right) if e.noise is not None))
        return difference - noise, difference + noise, None, None
    why = found.get("why", "one seed" if found.get("seeds") == 1 else None)  # older records have no why
    once = why == "one seed" or (trained and "training" not in found.get("covers", ["training"]))
    remarks = [ONE_SEED] if once else []
    if why and why != "one seed":
        remarks.insert(0, f"{why}: no interval")
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
    """A quantity as a sentence has it: "w/ synthetic data only/Avg of table1"."""
    if isinstance(quantity, list):
        *_, columns = zip(*(q.rpartition("/") for q in quantity), strict=True)
        return _name(f"{quantity[0].rpartition('/')[0]}/{' '.join(columns)}")
    kind, _, name = str(quantity).partition(" ")
    if kind in ("cell", "row"):
        artefact, _, rest = name.partition("/")
        return f"{rest} of {artefact}"
    if kind == "system":
        system, artefact, column = name.rsplit("/", 2)
        return f"{system}/{column} of {artefact}"
    named = {
        "data": name.replace("_", " "),
        "delta": f"the change {name}",
        "passkey": f"passkeys with {name}",
    }
    return named.get(kind, str(quantity))


# --- where evidence comes from -------------------------------------------------------------------


def evidence_of(results: Results) -> Find:
    """The quantities of claims.yaml as this run measured them."""
    cells = {c.id: c for a in paper.artefacts() for c in paper.cells(a)}

    def find(quantity: str) -> Evidence | None:
        kind, _, name = quantity.partition(" ")
        if kind in ("cell", "row"):
            stages = [ABLATIONS, EVALUATION] if kind == "row" else None
            return _of_number(results, of_cell(results, cells[name], stages))
        if kind == "system":
            return _system(results, *name.rsplit("/", 2))
        if kind == "delta":
            return _delta(results, name, cells)
        if kind == "data":
            return _data(results, name)
        if kind == "passkey":
            return _passkey(results, name)
        if quantity == "training steps":
            return Evidence(results.log[-1]["step"]) if results.log else None
        raise ValueError(f"report/claims.yaml: unknown quantity {quantity!r}")

    return find


def _of_number(results: Results, number: Number | None) -> Evidence | None:
    if number is None:
        return None
    noise = None
    if number.std is not None:
        noise = float(stdtrit(number.n - 1, 0.975)) * number.std / sqrt(number.n)
    budget = json.dumps(results.budget(number.stage), sort_keys=True)
    return Evidence(number.mean, noise, number.benchmark, number.why is None, budget, rows=number.rows)


def _system(results: Results, system: str, artefact: str, column: str) -> Evidence | None:
    """A system of the main evaluation in one column, on the best benchmark that it was measured on."""
    ways = paper.ways(next(c for c in paper.cells(artefact) if c.column == column))
    scores = results.scores[EVALUATION]
    peers = [s for s in scores.systems if s not in ("base", "trained")]
    for benchmark, conditions in ways.items():
        everyone = {s: lookup(scores, EVALUATION, s, benchmark, conditions) for s in scores.systems}
        most = max((n.tasks for n in everyone.values() if n), default=0)
        whole = {s: n for s, n in everyone.items() if n and n.tasks == most}
        wanted = peers if system == "best peer" else [system]
        if found := [whole[s] for s in wanted if s in whole]:
            return _of_number(results, max(found, key=lambda n: n.mean))
    return None


def _delta(results: Results, row: str, cells: dict) -> Evidence | None:
    """A change of Table 5, with its interval."""
    number = of_cell(results, cells[f"table5/{paper.short(row)}/delta_avg"])
    if number is None:
        return None
    interval = results.scores[ABLATIONS].intervals.get(number.system)
    if interval:
        return Evidence(interval["delta"], None, number.benchmark, number.why is None, interval=interval)
    return _of_number(results, number)


def _data(results: Results, key: str) -> Evidence | None:
    data = results.statistics
    if data and key == "instructions_per_100":
        return Evidence(100 * data["instructions"] / max(1, data["examples"]))
    return Evidence(data[key]) if data and key in data else None


def _passkey(results: Results, row: str) -> Evidence | None:
    """Mean over lengths, with half the width of its 95 % interval."""
    points = [p for p in results.passkey if passkey_row(p) == row]
    if not points:
        return None
    spread = sum(p["accuracy"] * (100 - p["accuracy"]) / p["queries"] for p in points)
    comparable = all(passkey_why(p) is None for p in points)
    mean, noise = fmean(p["accuracy"] for p in points), 1.96 * sqrt(spread) / len(points)
    return Evidence(mean, noise, passkey_benchmark(points[0]), comparable)
