"""A run verified by itself (`synthembed check`), and a reader's run beside the reference (`--against`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from synthembed.ground.files import read_json, shown
from synthembed.paper import reference_run
from synthembed.paper.reference_run import DIFFERENT, EQUAL, MISSING, WITHIN, Comparison
from synthembed.review.inspection import (
    doubts,
    executed_notebooks,
    provenance,
    rendered,
    stage_facts,
    stored_scores,
)
from synthembed.review.inspection.found import (
    CONTRADICTION,
    DOUBT,
    HELD,
    LEFT_OUT,
    Finding,
    Findings,
    Run,
    Unreadable,
    wrong,
)

CHECKS: tuple[Callable[[Run], Findings], ...] = (
    provenance.files, provenance.chain, provenance.settings, provenance.code, executed_notebooks.check,
    stage_facts.corpus, stage_facts.check, stored_scores.check, rendered.check, doubts.check,
)  # fmt: skip
# What code meets that reads a file which somebody wrote by hand.
OF_ANOTHER_FORM = (
    KeyError, TypeError, AttributeError, IndexError, ValueError, StopIteration, ArithmeticError,
)  # fmt: skip


@dataclass
class Review:
    """What the checks found in a run, and how long they took (seconds)."""

    run: Path
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, kind: str) -> list[Finding]:
        return [f for f in self.findings if f.kind == kind]

    @property
    def follows(self) -> bool:
        """Whether nothing in the run contradicts the rest of it."""
        return not self.of(CONTRADICTION)

    def text(self, most: int = 12) -> str:
        """For a terminal: contradictions first, then what to doubt, in order, what is left out, what held."""
        broken = self.of(CONTRADICTION)
        lines = [f"{shown(self.run)}: {self.said()} ({self.seconds:.0f} s)"]
        lines += _listed("Contradictions: somebody or something changed this run", broken, most)
        lines += _listed("Doubt, in this order", self.of(DOUBT), most, numbered=True)
        lines += _listed("Left out by design", self.of(LEFT_OUT), most)
        lines += _listed("Held", self.of(HELD), most)
        return "\n".join(lines)

    def said(self) -> str:
        if self.follows:
            return "everything in it follows from the rest of it"
        names = list(dict.fromkeys(f.name for f in self.of(CONTRADICTION)))
        return f"it contradicts itself in {len(self.of(CONTRADICTION))} places: {', '.join(names)}"


def _listed(title: str, found: list[Finding], most: int, numbered: bool = False) -> Iterator[str]:
    if not found:
        return
    yield f"\n{title}:"
    for number, finding in enumerate(found[:most], 1):
        yield f"  {f'{number}. ' if numbered else '- '}{finding}"
    if len(found) > most:
        yield f"  and {len(found) - most} more"


def review(folder: Path) -> Review:
    """All checks of a run; a check that trips over a file of the wrong form is a contradiction by itself."""
    begun, found = time.monotonic(), Review(folder)
    try:
        run = Run(folder)
    except Unreadable as error:
        found.findings.append(wrong("unreadable", "", str(error)))
        return found
    for check in CHECKS:
        try:
            of_check = list(check(run))
            broken = any(f.kind == CONTRADICTION for f in of_check)  # then nothing is said to have held
            found.findings += [f for f in of_check if not (broken and f.kind == HELD)]
        except Unreadable as error:
            found.findings.append(wrong("unreadable", "", str(error)))
        except OF_ANOTHER_FORM as error:
            said = f"a file is not of the form that this code writes ({type(error).__name__}: {error})"
            found.findings.append(wrong("unreadable", check.__module__.rpartition(".")[2], said))
    found.findings = sorted(dict.fromkeys(found.findings), key=doubts.rank)
    found.seconds = time.monotonic() - begun
    return found


# --- beside a reference -----------------------------------------------------------------------------

REPRODUCED, NEAR, CONCLUSIONS, FAILED = (
    "reproduced, bit for bit", "reproduced within what other seeds differ by",
    "reproduced in its conclusions, not in its numbers", "not reproduced",
)  # fmt: skip


class NotCompared(RuntimeError):
    """A run that cannot be set beside another."""


@dataclass
class Reproduction:
    """A reader's run beside a reference: the numbers, and the claims that came out otherwise."""

    numbers: Comparison
    claims: list[str]

    @property
    def verdict(self) -> str:
        counts = self.numbers.counts()
        if not self.numbers.pairs or counts[MISSING] or self.claims:
            return FAILED
        if counts[EQUAL] == len(self.numbers.pairs):
            return REPRODUCED
        return NEAR if not counts[DIFFERENT] and counts[WITHIN] else CONCLUSIONS

    def text(self) -> str:
        said = "; ".join(self.claims) or "every claim has the same verdict in both"
        return f"{shown(self.numbers.reference)} was {self.verdict}.\n{self.numbers.text()}\nClaims: {said}."


def reproduction(own: Path, reference: Path) -> Reproduction:
    """The verdict of the reproduction. Raises FileNotFoundError if the two are one and the same run, NotCompared if
    a file of theirs is not what its name says."""
    try:
        found = reference_run.compare(own, reference)
        mine, theirs = (
            {c["id"]: c["verdict"] for c in read_json(f / "07_report" / "claims.json", [])}
            for f in (own, reference)
        )
    except OF_ANOTHER_FORM as error:
        raise NotCompared(
            f"{shown(own)} cannot be set beside {shown(reference)}: a file of one of them is not of the form that this "
            f"code writes ({type(error).__name__}: {error}); `synthembed check` of each says which"
        ) from None
    if found is None:
        raise FileNotFoundError(f"{shown(own)} is the reference itself: name another run with --against")
    apart = [
        f"{name}: {mine.get(name, 'not judged')!r}, in the reference {theirs[name]!r}"
        for name in theirs
        if mine.get(name) != theirs[name]
    ]
    return Reproduction(found, apart)
