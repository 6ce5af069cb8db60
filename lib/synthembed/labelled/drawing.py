"""Which queries of a labelled set are taken, and which of their texts: functions of (seed, set, query)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from synthembed.corpus.example import Drops
from synthembed.corpus.texts import hash64
from synthembed.ground.seeding import seed_of
from synthembed.labelled.installed_sets import InstalledSet
from synthembed.labelled.mining import Documents
from synthembed.labelled.public_sets import PublicSet, locate
from synthembed.labelled.readers import LONGEST, Collection, ReadError, Record, records, text_id
from synthembed.profile.settings import Data, Source


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record with its texts drawn; ``known`` are ids of all documents judged to answer the query."""

    record: Record
    positive: str
    positive_id: str
    negative: str | None
    known: frozenset[str]


@dataclass(frozen=True)
class Part:
    """One language of a set: its candidates, and the documents that negatives are mined from.

    ``known_too`` tells of queries which documents other records judge to answer them.
    """

    candidates: list[Candidate]
    documents: Documents
    known_too: Callable[[set[str]], dict[str, set[str]]]


# --- sampling and drawing ------------------------------------------------------------------------


class Sampling:
    """Which records of a set are taken, and which of their texts: functions of (seed, set, query)."""

    def __init__(self, name: str, data: Data, ratio: float, drops: Drops):
        self.name, self.seed, self.ratio, self.drops = name, data.seed, ratio, drops
        self.seen: dict[str, int] = {}  # id → hash of its query

    def place(self, record_id: str) -> float:
        """In [0, 1): below the ratio, the record is taken."""
        return seed_of(self.seed, "sample", self.name, record_id) / 2**63

    def takes(self, record_id: str, query: str, place: str = "") -> bool:
        """Whether a record is taken. Raises ReadError if its id has stood for another query before."""
        key = hash64(query.encode())
        if self.place(record_id) >= self.ratio:
            self.drops.add("not sampled", record_id)
        elif record_id not in self.seen:
            self.seen[record_id] = key
            return True
        elif self.seen[record_id] == key:
            self.drops.add("query seen before", record_id)
        else:
            raise ReadError(
                f"{place or self.name}: the id {record_id} has another query here than before ({query[:60]!r}): "
                "which is right? Delete or number anew"
            )
        return False

    def draw(self, record_id: str, options: Iterable[str]) -> str | None:
        """One of some texts or ids, in whatever order they come."""
        return min(options, key=lambda o: seed_of(self.seed, "draw", record_id, o), default=None)

    def candidate(self, part: str, record: Record) -> Candidate | None:
        """A record that brings its passages along, with its texts drawn; None if it is not taken."""
        record_id = _prefixed(part, record.id)
        positives = [p for p in record.positives if p]
        if not record.query or not positives:
            self.drops.add("without query or positive", record_id)
        elif self.takes(record_id, record.query, record.place):
            positive = self.draw(record_id, positives)
            negative = self.draw(record_id, (n for n in record.negatives if n and n not in positives))
            bare = Record(record_id, record.query, (), (), record.language, record.target)
            known = frozenset(map(text_id, positives))
            return Candidate(
                bare, positive[:LONGEST], text_id(positive), negative and negative[:LONGEST], known
            )
        return None

    def bounded(self, parts: list[Part], limit: int | None) -> list[Part]:
        """The parts with their candidates in the order of their places, which leaves no trace of the files'
        order; of all parts together the first ``limit``."""
        places = {c.record.id: self.place(c.record.id) for part in parts for c in part.candidates}
        kept = heapq.nsmallest(limit or len(places), places, key=places.get)
        if len(kept) < len(places):
            self.drops.counts["over the limit"] += len(places) - len(kept)
        order = {record_id: n for n, record_id in enumerate(kept)}
        return [
            replace(p, candidates=sorted(
                (c for c in p.candidates if c.record.id in order), key=lambda c: order[c.record.id]
            ))
            for p in parts
        ]  # fmt: skip


def _prefixed(part: str, record_id: str) -> str:
    return f"{part}-{record_id}" if part else record_id  # languages number their queries alike


# --- sets → parts --------------------------------------------------------------------------------


def parts_of_installed(
    entry: InstalledSet, source: Source, seed: int, sampling: Sampling
) -> tuple[list[Part], dict]:
    if source.source or source.revision:
        raise ReadError(f"data.sets.{entry.name}: it is read from the installation and takes no source")
    found = list(entry.read(seed, sampling.drops))
    return [_part(sampling, "", lambda: iter(found), False)], {"source": "this installation"}


def parts_of_public(
    entry: PublicSet, source: Source, seed: int, sampling: Sampling
) -> tuple[list[Part], dict]:
    places, revision = locate(entry, source)
    parts = []
    for part, language in entry.parts.items():
        files = places[part]
        if entry.form == "collection":
            collection = Collection(files["corpus"], files["queries"], files["qrels"], language)
            parts.append(_collection_part(sampling, part, collection, entry.relevant))
        else:
            read = partial(records, entry.form, files["train"], entry.columns, language)
            parts.append(_part(sampling, part, read, entry.form == "duplicates"))
    return parts, {"source": source.source or entry.hub, "revision": revision, "licence": entry.licence}


def _part(sampling: Sampling, part: str, read: Callable[[], Iterator[Record]], symmetric: bool) -> Part:
    """A set that brings its passages along: negatives are mined among the positives of all its records."""

    def sides(record: Record) -> Iterator[tuple[str, str]]:
        yield from ((record.query, p) for p in record.positives)
        if symmetric:
            yield from ((p, record.query) for p in record.positives)

    def documents() -> Iterator[tuple[str, str]]:
        seen = set()
        for record in read():
            for _, text in sides(record):
                if text and (key := text_id(text)) not in seen:
                    seen.add(key)
                    yield key, text[:LONGEST]

    def known_too(queries: set[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for record in read():
            for query, text in sides(record):
                if query in queries:
                    found.setdefault(query, set()).add(text_id(text))
        return found

    taken = [c for record in read() if (c := sampling.candidate(part, record))]
    return Part(taken, documents, known_too)


def _collection_part(sampling: Sampling, part: str, collection: Collection, relevant: int) -> Part:
    """A set whose passages lie in a corpus: only the texts of what was drawn are kept."""
    judged, drawn, taken = collection.judgements(), {}, []
    for query_id, query in collection.queries():
        grades, record_id = judged.get(query_id, {}), _prefixed(part, query_id)
        positives = frozenset(d for d, grade in grades.items() if grade >= relevant)
        if not query or not positives:
            sampling.drops.add("without query or positive", record_id)
        elif sampling.takes(record_id, query):
            negative = sampling.draw(record_id, set(grades) - positives)
            drawn[record_id] = (query, sampling.draw(record_id, positives), negative, positives)
    wanted = {document for _, positive, negative, _ in drawn.values() for document in (positive, negative)}
    texts: dict[str, str] = {}
    for document, text in collection.documents():
        if document in wanted and texts.setdefault(document, text[:LONGEST]) != text[:LONGEST]:
            raise ReadError(
                f"{sampling.name}: the id {document} has two texts in the corpus, {texts[document][:60]!r} and "
                f"{text[:60]!r}: which is right? Delete or number anew"
            )
    for record_id, (query, positive, negative, known) in drawn.items():
        if texts.get(positive):
            record = Record(record_id, query, (), (), collection.language)
            taken.append(Candidate(record, texts[positive], positive, texts.get(negative), known))
        else:
            sampling.drops.add("positive is not in the corpus", record_id)

    def documents() -> Iterator[tuple[str, str]]:
        return ((d, text[:LONGEST]) for d, text in collection.documents())

    return Part(taken, documents, lambda queries: {})
