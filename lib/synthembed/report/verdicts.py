"""verdicts.json: one entry for every published number, and one for every artefact that shows method.

Reads results only.
"""

from __future__ import annotations

from collections import Counter

import pandas as pd

from synthembed import paper
from synthembed.report.cells import of_cell
from synthembed.report.results import Number, Results

KINDS = ["match", "close", "differs", "not comparable", "not run"]


def verdicts(results: Results) -> list[dict]:
    """The entries of one run, in the paper's order (contract of verdicts.json)."""
    entries = []
    for artefact, about in paper.artefacts().items():
        if about["kind"] == "method":
            entries.append(_method(results, artefact, about))
        for cell in paper.cells(artefact):
            entries.append(_entry(results, cell, of_cell(results, cell)))
    return entries


def verdict(cell: paper.Cell, value: float | None, comparable: bool) -> str:
    """match: within the tolerance; close: within a point; differs; or why there is none."""
    if value is None:
        return "not run"
    if not comparable:
        return "not comparable"
    distance = abs(value - cell.value)
    return "match" if distance <= cell.tolerance + 1e-9 else "close" if distance <= 1 else "differs"


def _entry(results: Results, cell: paper.Cell, number: Number | None) -> dict:
    comparable = number is not None and number.why is None
    return {
        "id": cell.id,
        "artefact": cell.artefact,
        "paper": cell.value,
        "ours": None if number is None else round(number.mean, 2),
        "comparable": comparable,
        "tolerance": cell.tolerance,
        "verdict": verdict(cell, None if number is None else number.mean, comparable),
        "why": _not_run(cell) if number is None else number.why,
        "run": None if number is None else _provenance(results, number),
    }


def _not_run(cell: paper.Cell) -> str:
    if needs := paper.systems(cell.artefact)[cell.system].get("needs"):
        return f"not at this scale: it needs {needs}"
    if cell.own:
        return "this run has no result for it"
    return "as published, not run by us"


def _provenance(results: Results, number: Number) -> dict:
    record = results.stage(number.stage)
    seeds = number.seeds or record.get("seeds", [])[: len(number.values)]
    return {
        "name": results.name,
        "stage": number.stage,
        "system": number.system,
        "benchmark": number.benchmark,
        "mteb": record.get("versions", {}).get("mteb"),
        "commit": record.get("commit"),
        "profile_hash": record.get("profile_hash"),
        "seeds": seeds,
        "n_seeds": len(seeds),
        "std": None if number.std is None else round(number.std, 3),
    }


def _method(results: Results, artefact: str, about: dict) -> dict:
    """Method has no number to compare: the entry says whether this run's notebook shows it."""
    notebook, heading = about["shown"]["notebook"], about["shown"]["heading"]
    done = results.stage(notebook).get("status") == "done"
    where = f"method, without numbers; {notebook}.ipynb shows it under {heading!r}"
    return {
        "id": f"{artefact}/method", "artefact": artefact, "paper": None, "ours": None, "comparable": False,
        "tolerance": None, "verdict": "not comparable" if done else "not run", "why": where, "run": None,
    }  # fmt: skip


def best(runs: list[list[dict]]) -> list[dict]:
    """One entry per id of several runs: the first that compares, or that was measured, or any."""
    ranked = (
        sorted(same, key=lambda e: (not e["comparable"], e["verdict"] == "not run"))
        for same in zip(*runs, strict=True)
    )
    return [entries[0] for entries in ranked]


def summary(entries: list[dict]) -> pd.DataFrame:
    """Verdicts counted per artefact."""
    counted = {a: Counter(e["verdict"] for e in entries if e["artefact"] == a) for a in paper.artefacts()}
    return pd.DataFrame(
        [
            {"artefact": a, "what": paper.artefacts()[a]["title"], **{k: counts.get(k, 0) for k in KINDS}}
            for a, counts in counted.items()
        ]
    )
