"""A reader's run beside the committed one: which numbers came out the same, and why the others may not have.

The committed run of a name is the reference. A number is *equal* (bit for bit), *within* what trainings with
other seeds differ by, *different*, or *not made* by the reader's run. Reads results only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import variance

from scipy.special import stdtrit

from synthembed.ground.files import read_json, read_lines

EQUAL, WITHIN, DIFFERENT, MISSING = "equal", "within", "different", "not made"
OUTCOMES = (EQUAL, WITHIN, DIFFERENT, MISSING)
LEVEL = 0.95  # of two runs of one recipe so many in a hundred are within the tolerance
SCORED = ("04_evaluate", "05_ablations")
_WHO = ("system", "benchmark", "task", "language", "metric")


@dataclass(frozen=True)
class Pair:
    """One number of the reference, and ours: ``what`` names it within its stage."""

    stage: str
    what: tuple[str, ...]
    reference: float
    own: float | None
    tolerance: float | None = None

    @property
    def outcome(self) -> str:
        if self.own is None:
            return MISSING
        if self.own == self.reference or (math.isnan(self.own) and math.isnan(self.reference)):
            return EQUAL
        near = self.tolerance is not None and abs(self.own - self.reference) <= self.tolerance
        return WITHIN if near else DIFFERENT


@dataclass
class Comparison:
    """All numbers of a reference beside those of a run, with the likely causes of differences by stage."""

    reference: Path
    own: Path
    pairs: list[Pair]

    def counts(self, stage: str = "") -> Counter:
        return Counter(p.outcome for p in self.pairs if stage in ("", p.stage))

    @cached_property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(p.stage for p in self.pairs))

    def causes(self, stage: str) -> list[str]:
        """What a stage was made from otherwise than the reference's, the stages that it reads included."""
        ours, theirs = (read_json(f / stage / "stage.json", {}) for f in (self.own, self.reference))
        if not ours or not theirs:
            return ["it has not run here"] if not ours else []
        found = list(_causes(ours, theirs))
        for earlier in sorted(
            {name.partition("/")[0] for name, _ in ours["inputs"].items() ^ theirs["inputs"].items()}
        ):
            found += [c for c in self.causes(earlier) or [f"{earlier} is another"] if c not in found]
        return found

    def rows(self) -> list[dict]:
        """One row a stage: how many of its numbers had which outcome, the largest difference, its likely cause."""
        rows = []
        for stage in self.stages:
            counts = self.counts(stage)
            apart = [p for p in self.pairs if p.stage == stage and p.outcome in (WITHIN, DIFFERENT)]
            largest = max(apart, key=_size, default=None)
            rows.append(
                {"stage": stage, "numbers": sum(counts.values()), **{o: counts[o] for o in OUTCOMES},
                 "largest difference": f"{largest.own - largest.reference:+.3g} ({', '.join(largest.what)})" if largest else "",
                 "likely cause": "; ".join(self.causes(stage)) or "nothing recorded: another processor of the same kind, perhaps"
                 if counts[EQUAL] < sum(counts.values()) else ""}
            )  # fmt: skip
        return rows

    def apart(self, most: int = 20) -> list[Pair]:
        """The numbers that differ by more than the tolerance, the largest difference first."""
        return sorted((p for p in self.pairs if p.outcome == DIFFERENT), key=_size, reverse=True)[:most]

    def said(self) -> str:
        """How the run stands beside the reference, in a sentence."""
        counts, total = self.counts(), len(self.pairs)
        if counts[EQUAL] == total:
            return f"All {total:,} numbers of the reference came out equal, bit for bit."
        known = any(p.tolerance is not None for p in self.pairs)
        within = f"{counts[WITHIN]:,} within what other seeds differ by, " if known else ""
        none = "" if known else " No run with several seeds tells what a difference means."
        return (
            f"Of the reference's {total:,} numbers {counts[EQUAL]:,} came out equal, bit for bit, {within}"
            f"{counts[DIFFERENT]:,} different, {counts[MISSING]:,} were not made.{none}"
        )

    def text(self) -> str:
        """For a terminal: the sentence, then the stages that have a difference."""
        lines = [self.said()]
        for row in self.rows():
            if row[EQUAL] < row["numbers"]:
                parts = [f"{row[o]:,} {o}" for o in OUTCOMES if row[o]]
                largest = f"; largest {row['largest difference']}" if row["largest difference"] else ""
                lines.append(
                    f"  {row['stage']}: {', '.join(parts)}{largest}; likely cause: {row['likely cause']}"
                )
        return "\n".join(lines)

    def as_dict(self) -> dict:
        return {
            "said": self.said(),
            "commit": _commit(read_json(self.reference / "04_evaluate" / "stage.json", {})),
            "stages": self.rows(),
            "different": [
                {"stage": p.stage, "what": ", ".join(p.what), "reference": p.reference, "own": p.own, "tolerance": p.tolerance}
                for p in self.apart()
            ],
        }  # fmt: skip


def compare(own: Path, reference: Path | None) -> Comparison | None:
    """A run beside the committed one of its name; None if there is none, or if they are one and the same."""
    if reference is None or reference.resolve() == own.resolve():
        return None
    ours, spreads = dict(numbers(own)), _spreads([own, *sorted(reference.parent.glob("*/"))])
    pairs = [
        Pair(*key, value, ours.get(key), _tolerance(spreads, key, (own, reference)))
        for key, value in numbers(reference)
    ]
    return Comparison(reference, own, pairs)


def numbers(run: Path) -> Iterator[tuple[tuple[str, tuple[str, ...]], float]]:
    """((stage, what), number) of all that a run has measured: the corpus, each step's loss, every score."""
    for name in ("statistics.json", "drops.json"):
        for path, value in _leaves(read_json(run / "02_analyze" / name, {})):
            if path[0] != "mteb_sets":  # what of mteb lies on this machine
                yield ("02_analyze", path), value
    log = run / "03_train" / "log.jsonl"
    for line in read_lines(log) if log.exists() else ():
        yield ("03_train", ("loss", f"step {line['step']}")), line["loss"]
    for stage in SCORED:
        scores = read_json(run / stage / "scores.json", {})
        for row in [*scores.get("rows", ()), *scores.get("more", ())]:
            yield (stage, (*(row[k] for k in _WHO), *_seed(row))), row["score"]
    for row in read_json(run / "06_long_context" / "scores.json", {}).get("passkey", ()):
        yield ("06_long_context", (row["variant"], f"length {row['length']}")), row["accuracy"]


def _seed(row: dict) -> tuple[str, ...]:
    return () if row.get("seed") is None else (f"seed {row['seed']}",)


def _leaves(value, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        yield path, value
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in items:
        yield from _leaves(below, (*path, str(key)))


# --- tolerance -----------------------------------------------------------------------------------


def _spreads(runs: list[Path]) -> dict[tuple[str, ...], list[tuple[float, int]]]:
    """(task, language, metric) → (variance over seeds, seeds) of every system that was trained several times."""
    values: dict[tuple, dict] = {}
    for run in runs:
        for (stage, what), score in numbers(run):
            if stage in SCORED and len(what) > len(_WHO):
                values.setdefault((run, stage, *what[: len(_WHO)]), {})[what[-1]] = score
    found: dict[tuple[str, ...], list[tuple[float, int]]] = {}
    for key, by_seed in values.items():
        if len(by_seed) > 1:
            found.setdefault(key[-3:], []).append((variance(by_seed.values()), len(by_seed)))
    return found


def _tolerance(spreads: dict, key: tuple[str, tuple[str, ...]], runs: tuple[Path, Path]) -> float | None:
    """How far two trainings with different seeds are apart in LEVEL of all cases, by the pooled variance of
    this task's scores over seeds and Student's t; None for what is not trained or was never repeated."""
    stage, what = key
    if stage not in SCORED or len(what) == len(_WHO):
        return None
    found = spreads.get(what[2 : len(_WHO)])
    if not found:
        return None
    freedom = sum(n - 1 for _, n in found)
    pooled = sum(v * (n - 1) for v, n in found) / freedom
    return float(stdtrit(freedom, (1 + LEVEL) / 2) * math.sqrt(2 * pooled))


def _size(pair: Pair) -> float:
    return abs((pair.own or 0.0) - pair.reference)


# --- causes --------------------------------------------------------------------------------------


def _causes(ours: dict, theirs: dict) -> Iterator[str]:
    """What two records of a stage say of where and from what it was made, where they differ."""
    for section in sorted(set(ours["settings"]) | set(theirs["settings"])):
        mine, other = ours["settings"].get(section), theirs["settings"].get(section)
        if mine != other:
            keys = (
                [k for k in {**mine, **other} if mine.get(k) != other.get(k)]
                if _both_dicts(mine, other)
                else []
            )
            yield f"other settings: {section}{'.' + ', '.join(keys) if keys else ''}"
    for name in sorted(set(ours["versions"]) | set(theirs["versions"])):
        mine, other = ours["versions"].get(name), theirs["versions"].get(name)
        if mine != other:
            yield f"another package version: {name} {mine or 'none'}, not {other or 'none'}"
    for name in sorted(set(ours["machine"]) & set(theirs["machine"])):
        mine, other = ours["machine"][name], theirs["machine"][name]
        if mine != other:
            yield f"another processor: {name} {mine or 'none'}, not {other or 'none'}"
    if ours["code"] != theirs["code"]:
        yield f"changed code: commit {_commit(ours)}, not {_commit(theirs)}"


def _both_dicts(*values) -> bool:
    return all(isinstance(v, dict) for v in values)


def _commit(record: dict) -> str:
    return (record.get("commit") or "unknown")[:10] + (
        " with changes" if record.get("uncommitted_changes") else ""
    )
