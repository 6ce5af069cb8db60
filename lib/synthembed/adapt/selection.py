"""Which of the written examples are trained on, which are held out, and which are dropped for what reason.

Documents, not queries, are held out: a query whose passage, or a neighbour of it, was trained on says
nothing of new ones. Whether a document is held out depends on its id alone, so that added documents move none.
Of a few long documents, or of one that is longer than all others together, a handbook say, parts are held out in the
place of documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from synthembed.adapt import refusals
from synthembed.adapt.queries import Asked
from synthembed.adapt.reading import languages
from synthembed.adapt.reading.passages import Passage
from synthembed.corpus.example import Drops, Example
from synthembed.corpus.filters import is_refusal
from synthembed.corpus.texts import NearDuplicates, letters, longest_copied_run, normalised, word_count, words
from synthembed.ground.console import counted
from synthembed.ground.seeding import seed_of

NEAR = 0.8  # Jaccard over 3-shingles above which two passages are one for the split
COPIED = 0.6  # share of a query that may stand in its passage as one run
# Of such a run in a script that does not separate words, where a word is few letters.
LEAST_LETTERS_COPIED = 12
LEAST_LETTERS_LATIN = 18  # in Latin, where a blank may part syllables (Vietnamese)
MANY = 3  # passages that one query was written for: a refusal in whatever language, or too general for any
LEAST_HELD_OUT = 5  # documents
LEAST_DOCUMENTS = LEAST_HELD_OUT + 3
LEAST_TRAINED = 8  # examples
PART = 5  # passages, of documents that are held out in parts, at most
STRAYS = "query in another language than its passage"
REPEATED = f"query written for {MANY} passages or more"


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


def units(passages: Sequence[Passage]) -> dict[str, str]:
    """What is held out whole, by a passage's key: its document, or a part of it where there are too few documents, or
    where one has most of the passages, of which too few would be trained on or measured by otherwise."""
    counts, seen, found = Counter(p.document for p in passages), Counter(), {}
    size = max(1, min(PART, len(passages) // LEAST_DOCUMENTS))
    for passage in passages:
        name = passage.document
        if len(counts) < LEAST_DOCUMENTS or 2 * counts[name] > len(passages):
            name = f"{name}, part {seen[name] // size + 1}"
        found[passage.key] = name
        seen[passage.document] += 1
    return found


def foresee(passages: Sequence[Passage], share: float, seed: int, each: int) -> set[str]:
    """Which documents, or parts, will be held out; raises SelectionError, before anything is asked or paid for, if no
    selection can come of so few passages with ``each`` queries."""
    of = units(passages)
    names = list(dict.fromkeys(of.values()))
    if len(names) < LEAST_DOCUMENTS:
        raise SelectionError(
            f"{counted(len(passages), 'passage')} of {counted(len({p.document for p in passages}), 'document')}: at least {LEAST_DOCUMENTS} are "
            f"needed, as {LEAST_HELD_OUT} are held out to measure by. Give more documents, or cut them shorter (--words 60)"
        )
    out = held_out_documents(names, share, seed)
    left = sum(name not in out for name in of.values())
    if left * each < LEAST_TRAINED:
        raise SelectionError(
            f"{left} passages are left to train on beside those of {len(out)} documents to measure by, and at least "
            f"{LEAST_TRAINED} queries are needed: --queries {-(-LEAST_TRAINED // max(1, left))}, more documents, or shorter "
            "passages (--words 60)"
        )
    return out


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

    Raises SelectionError if fewer than LEAST_TRAINED examples are left to train on, or none to measure by.
    """
    unit_of = units(passages)
    found = Selection([], [], drops or Drops(), {e.id: unit_of[asked[e.id].passage.key] for e in examples})
    out = foresee(passages, share, seed, LEAST_TRAINED)
    near, queries = NearDuplicates(NEAR), {}
    for passage in passages:
        if unit_of[passage.key] in out:
            near.seen(passage.key, passage.body)
    often = repeated(examples)
    held_queries = {normalised(e.query) for e in examples if found.document_of[e.id] in out}
    for one in examples:
        held = found.document_of[one.id] in out
        reason = fault(one)
        if not reason and normalised(one.query) in often:
            reason = REPEATED
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
    if len(found.train) < LEAST_TRAINED or not found.held_out:
        raise SelectionError(
            f"{len(found.train)} examples to train on and {len(found.held_out)} to measure by are left, and at least "
            f"{LEAST_TRAINED} and 1 are needed. Dropped: {dict(found.drops.counts) or 'none'}. Give more documents, more queries a "
            "passage (--queries 3), a better generator, or --keep-rank 0 to leave the consistency filter out"
        )
    return found


def repeated(examples: Sequence[Example]) -> set[str]:
    """Queries, normalised, that were written for MANY passages or more."""
    written = {(normalised(e.query), e.positive) for e in examples}
    return {query for query, count in Counter(query for query, _ in written).items() if count >= MANY}


def fault(one: Example) -> str:
    """What is wrong with an example by itself, "" if nothing is."""
    negative = one.negative or ""
    # of a query the beginning alone says nothing: "I cannot find ..."
    if is_refusal(negative) or refusals.is_refusal(negative) or refusals.is_refusal(one.query):
        return "refusal phrase"
    if letters(one.query) < (3 if one.query.isascii() else 1):  # one sign is a word in Chinese and in Korean
        return "query has no words"
    if one.negative and normalised(one.negative) in normalised(one.positive):
        return "hard negative is part of the passage"
    if normalised(one.query) == normalised(one.negative or ""):
        return "hard negative is the query"
    if _copied(one.query, one.positive):
        return "query copied from the passage"
    return STRAYS if languages.strays(one.query, one.positive) else ""


def _copied(query: str, passage: str) -> bool:
    """Whether most of a query stands in its passage as one run, which is more than a word or two with their endings."""
    said = words(query)
    if len(said) < 4:
        return False
    share = longest_copied_run(query, passage)
    unspaced = word_count(query) < 0.9 * len(said)
    latin = languages.scripts(query).keys() == {"Latin"}
    least = LEAST_LETTERS_COPIED if unspaced else LEAST_LETTERS_LATIN if latin else 0
    return share > COPIED and share * sum(map(letters, said)) >= least


def _drop(found: Selection, one: Example, reason: str) -> None:
    found.drops.add(reason, f"{one.query} => {one.positive}")
    found.dropped.append((one, reason))
