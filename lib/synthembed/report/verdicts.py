"""verdicts.json: one entry for every published number, and one for every artefact that shows method.

For a published number, the one of ours that belongs to it: which rows of scores.json make a cell is data
(paper/artefacts.yaml). Whether the two compare is judged here, by all that the paper states of the row, and
every reason is kept if they do not. Reads results only.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from synthembed import paper
from synthembed.profile.reading import assign
from synthembed.profile.taxonomy import LANGUAGES
from synthembed.report.results import ABLATIONS, EVALUATION, Number, Results, lookup

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


# --- our number for a published one ---------------------------------------------------------------

PAPERS_MTEB = "1.0.2"
# Sections of a profile by the stage whose record of them counts.
CORPUS, SCORING = ("generate", "analyze"), ("evaluate", "long_context")
TRAINING = ("backbone", "lora", "data", "pretrain", "train")


def of_cell(results: Results, cell: paper.Cell) -> Number | None:
    """Our number for a published one, or None if this run has none."""
    if cell.artefact == "figure2":
        return _share(results, cell)
    if cell.artefact == "figure5":
        return _passkey(results, cell)
    return _scored(results, cell)


def _scored(results: Results, cell: paper.Cell) -> Number | None:
    differences = paper.artefacts()[cell.artefact].get("differences", {})
    if terms := differences.get(cell.column) or differences.get(cell.row):
        first, second = (_scored(results, _changed(cell, terms[side])) for side in ("of", "from"))
        same = first and second and first.benchmark == second.benchmark
        if same and results.budget(first.stage) == results.budget(second.stage):
            return first.minus(second)
        return None
    for stage, system in _candidates(results, cell):
        found = [
            n
            for b, c in paper.ways(cell).items()
            if (n := lookup(results.scores[stage], stage, system, b, c))
        ]
        judged = [replace(n, why=_why(results, cell, n)) for n in found]
        if judged:  # the first that compares, or else what the best benchmark gives
            return next((n for n in judged if n.why is None), judged[0])
    return None


def _changed(cell: paper.Cell, change: dict[str, str]) -> paper.Cell:
    row = change.get("row", cell.row)
    return replace(
        cell, row=row, system=row, column=change.get("column", cell.column), keys=cell.keys | change
    )


def _candidates(results: Results, cell: paper.Cell) -> list[tuple[str, str]]:
    """(stage, system) that may give a cell. A row that is the main model's is never an ablation's,
    except in artefacts that name the ablations first: their rows share a budget."""
    if not cell.own:
        named = paper.systems(cell.artefact)[cell.system].get("run")
        return [(EVALUATION, named)] if named in results.scores[EVALUATION].systems else []
    stages = paper.artefacts()[cell.artefact].get("stages")
    if stages is None:
        main = paper.fills(results.setting()).get(cell.artefact) == cell.system
        stages = [EVALUATION] if main else [EVALUATION, ABLATIONS]
    found = [(s, results.scores[s].filler(cell.artefact, cell.system)) for s in stages]
    return [(stage, system) for stage, system in found if system]


def _why(results: Results, cell: paper.Cell, number: Number) -> str | None:
    """Why a number does not compare with the published one, all reasons, or None."""
    about = paper.systems(cell.artefact)[cell.system]
    reasons = [paper.benchmarks()[number.benchmark].get("why"), number.why, about.get("why")]
    reasons.append(_moved(results, number))
    if cell.own:
        reasons += paper.differences(cell.artefact, cell.system, made(results, number.stage, number.system))
    return "; ".join(filter(None, reasons)) or None


def made(results: Results, stage: str, system: str) -> dict[str, Any]:
    """How a number was made: dotted settings as the stages recorded them, with what an ablation changes, and
    the facts that the paper's recipe asks for (paper/artefacts.yaml). What is not recorded is not there."""
    training = ABLATIONS if stage == ABLATIONS else "03_train"
    nested: dict[str, Any] = {}
    for of, sections in (("02_analyze", CORPUS), (training, TRAINING), (stage, SCORING)):
        settings = results.stage(of).get("settings", {})
        nested |= {name: copy.deepcopy(settings[name]) for name in sections if name in settings}
    for change in reversed(results.changes(stage, system)):
        for key, value in change.items():
            assign(nested, key, value)
    found = dict(dotted(nested))
    if results.statistics:
        found["synthetic examples"] = results.statistics["examples"]
    if "generate" in nested:
        found["languages asked for"] = len(nested["generate"].get("languages") or LANGUAGES)
    examples = results.scores[ABLATIONS].examples.get(system) if stage == ABLATIONS else None
    if examples := examples or results.stage(training).get("data", {}).get("examples"):
        found["examples"] = examples
    sets = nested.get("data", {}).get("sets", {}).items()
    cut = {n: {k: v for k in ("ratio", "limit") if (v := of.get(k)) is not None} for n, of in sets}
    found["sets cut otherwise"] = "; ".join(f"{n}: {_listed(of)}" for n, of in cut.items() if of) or "none"
    if dtype := nested.get("backbone", {}).get("dtype"):
        gpu = results.stage(training).get("machine", {}).get("gpu")
        found["precision of training"] = (
            "mixed" if dtype.endswith("16") or (dtype == "auto" and gpu) else "float32"
        )
    return found


def dotted(nested: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key, sections included."""
    for key, value in nested.items():
        yield prefix + key, value
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")


def _listed(values: dict) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items())


def _moved(results: Results, number: Number) -> str | None:
    """That a set, or one in an average, is scored otherwise by the mteb of this run than by the paper's."""
    moved = [t for t in paper.moved_by_mteb() if t in {r["task"] for r in number.rows}]
    version = results.stage(number.stage).get("versions", {}).get("mteb", "of this run")
    if not moved or version == PAPERS_MTEB:
        return None
    if number.tasks > 1:
        return (
            f"mteb {version} scores {len(moved)} of its sets otherwise than the paper's mteb {PAPERS_MTEB}: "
            + ", ".join(moved)
        )
    card = paper.published()["released_model_mteb56"]["rows"][moved[0]]
    again = card["rerun_results_repo"]
    return (
        f"mteb {version} scores this set otherwise than the paper's mteb {PAPERS_MTEB}: the released weights "
        f"got {again['score']:.1f} with mteb {again['mteb_version']}, {card['score']:.1f} on their card"
    )


def _share(results: Results, cell: paper.Cell) -> Number | None:
    """Figure 2: task types in thousands of examples, languages in per cent."""
    data = results.statistics or {}
    share = data.get({"task types": "families", "languages": "languages"}[cell.row], {}).get(cell.column)
    if share is None:
        return None
    value = share * data["examples"] / 1e5 if cell.row == "task types" else share
    why = "; ".join(paper.differences(cell.artefact, cell.system, made(results, "02_analyze", "corpus")))
    return Number({None: value}, "synthetic corpus", "corpus", "02_analyze", why or None)


def _passkey(results: Results, cell: paper.Cell) -> Number | None:
    for point in results.passkey:
        if passkey_row(point) == cell.row and str(point["length"]) == cell.column:
            how = made(results, "06_long_context", point["variant"])
            variants = how.get("long_context.variants") or []
            how |= next((v for v in variants if v["id"] == point["variant"]), {})
            why = "; ".join(filter(None, [passkey_why(point), *paper.differences("figure5", cell.row, how)]))
            benchmark = passkey_benchmark(point)
            return Number(
                {None: point["accuracy"]}, benchmark, point["variant"], "06_long_context", why or None
            )
    return None


def passkey_benchmark(point: dict) -> str:
    return point.get("benchmark", "own passkey data")


def passkey_why(point: dict) -> str | None:
    """Why a measured point does not compare with Figure 5, or None."""
    why = paper.benchmarks().get(passkey_benchmark(point), {"why": "a test of this run's own"}).get("why")
    if why or (point["queries"] >= 50 and point["candidates"] >= 100):
        return why
    return f"{point['queries']} queries of {point['candidates']} candidates, 50 of 100 in the paper"


def passkey_row(point: dict) -> str | None:
    """The row of Figure 5 that a measured point belongs to."""
    return point.get("fills", {}).get("figure5") or point.get("paper_row")
