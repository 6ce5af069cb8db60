"""The paper's effects: does each one's direction appear here, by how much, and is it beyond noise?

An effect is a difference of two of the paper's rows. Directions compare across models and benchmarks; sizes do
not, and nothing here says that they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from synthembed import paper
from synthembed.evaluation.intervals import BENCHMARK, TASKS
from synthembed.report.evidence import HIGH, LOW, Evidence, evidence_of
from synthembed.report.results import Results

# Kind of interval → the column that says whether the change is beyond it.
BEYOND = {BENCHMARK: "beyond other texts", TASKS: "beyond other tasks", None: "beyond other seeds"}
NOISE = 0.5  # points: below it the paper's own order is as good as open, since it trained every row once


@dataclass(frozen=True)
class Effect:
    """``paper`` in points; ``ours`` a quantity of claims.yaml, or two of which the second is taken off;
    ``sign`` -1 if ours is measured the other way round."""

    what: str
    artefact: str
    paper: float
    ours: str | tuple[str, str]
    sign: int = 1


def effects() -> list[Effect]:
    """All that the paper's tables show as a difference of two rows, with the paper's size."""
    value = {c.id: c.value for a in paper.artefacts() for c in paper.cells(a)}

    def minus(one: str, other: str) -> float:
        return round(value[one] - value[other], 2)

    full, synthetic = "table1/full data/Avg", "table1/w/ synthetic data only/Avg"
    found = [
        Effect("labelled sets beside synthetic data", "table1", minus(full, synthetic), "change full from synthetic"),
        Effect("one labelled set (MS-MARCO, or what stands in) beside synthetic data", "table1",
               minus("table1/w/ synthetic + msmarco/Avg", synthetic), "change synthetic from default", -1),
        Effect("synthetic data left out", "table17",
               minus("table17/Average/w/o synthetic data", "table17/Average/full data"), "change labelled from full"),
    ]  # fmt: skip
    for cell in paper.cells("table5"):
        if cell.column == "delta_avg":
            found.append(Effect(_of_table5(cell.row), "table5", cell.value, f"delta {cell.row}"))
    for model, what in (("full data", "a decoder"), ("XLM-R_large + full data", "an encoder")):
        after, before = f"table7/{model}, w/ cont. pre-train/Avg", f"table7/{model}/Avg"
        pair = (f"cell {after}", f"cell {before}")
        found.append(Effect(f"contrastive pre-training of {what}", "table7", minus(after, before), pair))
    gap = {x: minus(f"table2/full data/{x}", f"table2/mE5_base/{x}") for x in HIGH + LOW}
    lag = fmean(gap[x] for x in HIGH) - fmean(gap[x] for x in LOW)
    found.append(Effect("low-resource languages further behind a multilingual peer than high-resource ones",
                        "table2", round(lag, 2), "lag table2"))  # fmt: skip
    far, near = (
        fmean(paper.published()["figure5"]["series"][row])
        for row in ("window 32k, base 10^5", "window 4k, base 10^4")
    )
    pair = ("passkey window 32k, base 10^5", "passkey window 4k, base 10^4")
    found.append(
        Effect("a larger RoPE base, for passkeys of all lengths", "figure5", round(far - near, 2), pair)
    )
    return found


def _of_table5(row: str) -> str:
    named = {
        "w/ LLaMA-2 7b init.": "another base model (LLaMA-2, or what stands in)",
        "w/ msmarco data only": "MS-MARCO alone (or what stands in) in place of synthetic data beside it",
        "w/ mean pool": "mean pooling", "w/ weighted mean": "weighted-mean pooling", "w/ r=8": "LoRA rank 8",
        "w/ r=32": "LoRA rank 32", "w/o instruction": "no instructions",
        "w/ task type prefix": "a fixed prefix for each task type",
    }  # fmt: skip
    return named.get(row, row)


def frame(results: Results) -> pd.DataFrame:
    """Columns effect, where, paper, here, direction, and those of ``BEYOND``: one row for every effect, run or not."""
    find = evidence_of(results)
    return pd.DataFrame([_row(e, find) for e in effects()])


def _row(effect: Effect, find) -> dict:
    titled = effect.artefact.replace("table", "Table ").replace("figure", "Figure ")
    row = {"effect": effect.what, "where": titled, "paper": f"{effect.paper:+z.1f}"}
    delta, kinds, seeds = _measured(effect, find)
    if delta is None:
        return row | {"here": "not run", "direction": "–"} | dict.fromkeys(BEYOND.values(), "–")
    bounds = next((b for b in kinds.values() if b), None)
    here = f"{delta:+z.1f}" + (f" [{bounds[0]:+z.1f}, {bounds[1]:+z.1f}]" if bounds else "")
    return row | {"here": here, "direction": _direction(effect.paper, delta, bounds)} | _noise(kinds, seeds)


def _measured(effect: Effect, find) -> tuple[float | None, dict[str, tuple | None], int | None]:
    """(difference, kind of interval → its ends, seeds), the narrower question first: "on this benchmark"."""
    if isinstance(effect.ours, tuple):
        one, other = (find(q) for q in effect.ours)
        if not one or not other or one.benchmark != other.benchmark or one.budget != other.budget:
            return None, {}, None
        noise = None
        if one.noise is not None and other.noise is not None:
            noise = (one.noise**2 + other.noise**2) ** 0.5
        delta = one.value - other.value
        return delta, {BENCHMARK: noise and (delta - noise, delta + noise)}, None
    evidence: Evidence | None = find(effect.ours)
    if evidence is None:
        return None, {}, None
    whole = evidence.interval or {}
    if BENCHMARK in whole or whole.get("kind") == TASKS:
        here = whole.get(BENCHMARK) or {}  # of public sets no texts' scores are kept: it is of seeds alone
        kinds = {BENCHMARK: here if "texts" in here.get("covers", ["texts"]) else None, TASKS: whole}
    else:  # the tasks are fixed (a lag behind a peer), or nothing was kept
        kinds = {BENCHMARK: whole}
    ends = {
        k: tuple(sorted((effect.sign * i["low"], effect.sign * i["high"])))
        for k, i in kinds.items()
        if i and i.get("low") is not None
    }
    return effect.sign * evidence.value, ends, whole.get("seeds")


def _direction(published: float, delta: float, bounds: tuple | None) -> str:
    if bounds is None or bounds[0] <= 0 <= bounds[1]:
        return "undecided"
    if abs(published) < NOISE:
        return "the paper's is too small to have one"
    return "as in the paper" if (delta > 0) == (published > 0) else "the other way"


def _noise(kinds: dict[str, tuple | None], seeds: int | None) -> dict[str, str]:
    """Whether a change is beyond what another choice of texts, of tasks and of seeds makes."""
    said = {
        column: "not known" if not (b := kinds.get(kind)) else "no" if b[0] <= 0 <= b[1] else "yes"
        for kind, column in BEYOND.items()
    }
    # Both intervals have the seeds in them where there are several.
    once = "not known: one seed" if seeds == 1 else "not known" if seeds is None else "in both"
    return said | {BEYOND[None]: once}
