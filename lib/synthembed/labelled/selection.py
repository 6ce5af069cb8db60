"""Which of the synthetic examples are trained on, and with which hard negatives (``data.select``).

Beyond the paper: how much data is enough, which families and languages, whether a pair is consistent by another
model (Promptagator, Dai et al. 2022; Gecko, Lee et al. 2024), and negatives that are mined, with a margin that
keeps false ones out (NV-Retriever, Moreira et al. 2024).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from synthembed.corpus.example import Example
from synthembed.ground.seeding import seed_of
from synthembed.ground.weights import embedded
from synthembed.labelled import mining
from synthembed.labelled.mining import Asked
from synthembed.profile.experiment_settings import Consistency, Judge, Mined, Selection
from synthembed.profile.settings import Negatives


def selected(examples: list[Example], chosen: Selection, seed: int) -> tuple[list[Example], dict[str, int]]:
    """The examples of ``chosen``, in their order, and how many were left out for which reason."""
    counts: Counter = Counter()
    reasons = [_left_out(e, chosen) for e in examples]
    counts.update(filter(None, reasons))
    found = [e for e, reason in zip(examples, reasons, strict=True) if not reason]
    if chosen.consistency:
        kept = consistent(found, chosen.consistency)
        counts[f"not {chosen.consistency.take}"] = len(found) - len(kept)
        found = kept
    if chosen.share < 1 or chosen.examples:
        most = round(chosen.share * len(found))
        kept = drawn(found, min(most, chosen.examples or most), seed)
        counts["not drawn"] = len(found) - len(kept)
        found = kept
    if chosen.negatives:
        found, without = with_negatives(found, chosen.negatives, seed)
        counts["without a mined negative (kept)"] = without
    return found, {reason: count for reason, count in counts.items() if count}


def _left_out(example: Example, chosen: Selection) -> str:
    """Why an example is left out; "" if it is not."""
    if example.family in chosen.without or example.family not in (chosen.families or [example.family]):
        return "of another family"
    languages = {example.language, example.target_language} - {""}
    return "in another language" if chosen.languages and not languages <= set(chosen.languages) else ""


def drawn(examples: list[Example], count: int, seed: int) -> list[Example]:
    """``count`` of the examples, in their order: those with the smallest hash of (seed, id), so that a smaller
    draw is a part of every larger one."""
    ranked = sorted(range(len(examples)), key=lambda n: seed_of(seed, "drawn", examples[n].id))
    return [examples[n] for n in sorted(ranked[:count])]


# --- an embedding model that reads the corpus ---------------------------------------------------------------


def consistent(examples: list[Example], settings: Consistency) -> list[Example]:
    """Those whose positive the judge ranks among the first ``top`` of all positives and negatives for its query,
    or the others, as ``take`` says."""
    documents = list(dict.fromkeys(d for e in examples for d in e.documents()))
    ranks = _ranks(examples, documents, settings, settings.top)
    where = {text: row for row, text in enumerate(documents)}
    good = [where[e.positive] in ranks.rows[n, : settings.top] for n, e in enumerate(examples)]
    return [e for e, fine in zip(examples, good, strict=True) if fine == (settings.take == "consistent")]


def with_negatives(examples: list[Example], settings: Mined, seed: int) -> tuple[list[Example], int]:
    """Each example with ``count`` negatives drawn from its first ``depth`` ranks, never its positive, none that
    another example has as the positive of the same query, and none within ``margin`` of the positive's score;
    and how many examples have none."""
    documents = list(dict.fromkeys(d for e in examples for d in e.documents()))
    where = {text: row for row, text in enumerate(documents)}
    known: dict[str, set[int]] = {}
    for e in examples:
        known.setdefault(e.query, set()).add(where[e.positive])
    extra = max(map(len, known.values()))
    ranks = _ranks(examples, documents, settings, settings.depth + extra)
    rule = Negatives(encoder=settings.encoder, depth=settings.depth, margin=settings.margin)
    made, without = [], 0
    for number, e in enumerate(examples):
        rows = mining.candidates(ranks, number, known[e.query], rule)
        rows.sort(key=lambda row, e=e: seed_of(seed, "mined", e.id, row))
        texts = [documents[row] for row in rows if documents[row] not in (e.query, e.negative)]
        texts = texts[: settings.count]
        without += not texts
        written = [e.negative] if settings.keep_written and e.negative else []
        first, *further = [*written, *texts] or [None]
        made.append(replace(e, negative=first, further=tuple(further)))
    return made, without


def _ranks(examples: list[Example], documents: list[str], settings: Judge, k: int) -> mining.Ranks:
    """The best ``k`` of ``documents`` for each example's query, and the positive's score."""

    def texts() -> Iterator[tuple[str, str]]:
        return ((text, text) for text in documents)

    asked = [
        Asked(e.id, _as_asked(e, settings), e.positive, e.positive, frozenset((e.positive,)))
        for e in examples
    ]
    return mining.ranked(
        asked, texts, _negatives(settings), min(k, len(documents)), embedded.cache_folder() / "mining"
    )


def _as_asked(example: Example, settings: Judge) -> str:
    """A query as the judge reads it; ``{instruction}`` in its prefix is the example's own."""
    prefix = "" if settings.encoder == "bm25" else settings.query_prefix
    return prefix.replace("{instruction}", example.instruction) + example.query


def _negatives(settings: Judge) -> Negatives:
    return Negatives(
        encoder=settings.encoder, query_prefix="", document_prefix=settings.document_prefix,
        max_length=settings.max_length,
    )  # fmt: skip
