"""Which of the written examples are trained on, which are held out, and which are dropped for what reason.

Documents, not queries, are held out: a query whose passage, or a neighbour of it, was trained on says
nothing of new ones. Whether a document is held out depends on its id alone, so that added documents move none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from synthembed.adapt.passages import Passage
from synthembed.adapt.queries import Asked
from synthembed.corpus.example import Drops, Example
from synthembed.corpus.filters import is_refusal
from synthembed.corpus.texts import NearDuplicates, letters, longest_copied_run, normalised, words
from synthembed.ground.seeding import seed_of

NEAR = 0.8  # Jaccard over 3-shingles above which two passages are one for the split
COPIED = 0.6  # share of a query that may stand in its passage as one run
LEAST_HELD_OUT = 5  # documents


class SelectionError(ValueError):
    """Too little is left to train on or to measure by; the message says what to do."""


@dataclass
class Selection:
    """Examples to train on and held-out ones, whose drops were counted, and each example's document."""

    train: list[Example]
    held_out: list[Example]
    drops: Drops
    document_of: dict[str, str]
    dropped: list[tuple[Example, str]] = field(default_factory=list)


def held_out_documents(documents: Sequence[str], share: float, seed: int) -> set[str]:
    """About ``share`` of the documents, at least LEAST_HELD_OUT of them: those whose hash is lowest."""
    ordered = sorted(documents, key=lambda name: seed_of(seed, "held out", name))
    chosen = {name for name in ordered if seed_of(seed, "held out", name) < share * 2**63}
    return chosen | set(ordered[:LEAST_HELD_OUT])


def select(
    examples: Sequence[Example], asked: Mapping[str, Asked], passages: Sequence[Passage], share: float, seed: int,
    rank_of: Callable[[Sequence[Example]], np.ndarray] | None, keep_rank: int, drops: Drops | None = None,
) -> Selection:  # fmt: skip
    """The filters, in order, and the split. ``rank_of`` gives the rank (1 = first) of each example's passage among
    all passages for its query, by a model; examples below ``keep_rank`` are dropped from training (held-out ones
    stay: what a model finds hard belongs to what it is measured by). None: no such filter.

    Raises SelectionError if fewer than 8 examples are left to train on, or none to measure by.
    """
    found = Selection([], [], drops or Drops(), {e.id: asked[e.id].passage.document for e in examples})
    documents = list(dict.fromkeys(p.document for p in passages))
    if len(documents) < LEAST_HELD_OUT + 3:
        raise SelectionError(
            f"{len(documents)} documents: at least {LEAST_HELD_OUT + 3} are needed, as {LEAST_HELD_OUT} of them are held out to measure by"
        )
    out = held_out_documents(documents, share, seed)
    near, queries = NearDuplicates(NEAR), {}
    for passage in passages:
        if passage.document in out:
            near.seen(passage.key, passage.body)
    held_queries = {normalised(e.query) for e in examples if found.document_of[e.id] in out}
    for one in examples:
        held = found.document_of[one.id] in out
        reason = _fault(one)
        if not reason and queries.setdefault(normalised(one.query), one.id) != one.id:
            reason = "query written twice"
        elif (
            not reason
            and not held
            and (normalised(one.query) in held_queries or near.find(asked[one.id].passage.body))
        ):
            reason = "leaks into the held-out documents"
        if reason:
            _drop(found, one, reason)
        else:
            (found.held_out if held else found.train).append(one)
    if rank_of is not None and found.train:
        ranks = rank_of(found.train)
        kept = []
        for one, rank in zip(found.train, ranks, strict=True):
            if rank <= keep_rank:
                kept.append(one)
            else:
                _drop(found, one, "inconsistent: its passage ranks too low")
        found.train = kept
    found.drops.kept = len(found.train) + len(found.held_out)
    if len(found.train) < 8 or not found.held_out:
        raise SelectionError(
            f"{len(found.train)} examples to train on and {len(found.held_out)} to measure by are left, and at least 8 "
            f"and 1 are needed. Dropped: {dict(found.drops.counts) or 'none'}. Give more documents, more queries a "
            "passage (--queries 3), a better generator, or --keep-rank 0 to leave the consistency filter out"
        )
    return found


def _fault(one: Example) -> str:
    """What is wrong with an example by itself, "" if nothing is."""
    if is_refusal(one.negative or ""):  # a query may well begin with "I cannot find"
        return "refusal phrase"
    if letters(one.query) < 3:
        return "query has no words"
    if one.negative and normalised(one.negative) in normalised(one.positive):
        return "hard negative is part of the passage"
    if normalised(one.query) == normalised(one.negative or ""):
        return "hard negative is the query"
    if len(words(one.query)) >= 4 and longest_copied_run(one.query, one.positive) > COPIED:
        return "query copied from the passage"
    return ""


def _drop(found: Selection, one: Example, reason: str) -> None:
    found.drops.add(reason, f"{one.query} => {one.positive}")
    found.dropped.append((one, reason))
