"""Labelled data and the mixture that is trained on: the data settings of Tables 1 and 5 (App. A).

Each set gives one example a query (NLI, ELI5 and Quora one a row): one positive, one hard negative, the
negative mined where the set has none. Whether a query is taken, and which of its texts are drawn,
depends on (seed, set, query) alone, so neither the order of files nor what else is in the mixture
changes an example.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from . import backbone as backbones
from . import mining
from .contamination import mteb_texts, suite_texts
from .examples import Drops, Example
from .filters import Leakage
from .installed import INSTALLED, InstalledSet
from .mining import Asked, Documents
from .profile import Data, Profile, Source
from .provenance import write_json
from .public_sets import MSMARCO, PUBLIC, PublicSet, locate, wanted
from .readers import LONGEST, Collection, ReadError, Record, records, text_id
from .taxonomy import seed_of

SEARCH_SET = {"public": MSMARCO, "installed": "docstrings"}  # of the settings that name MS-MARCO


@dataclass(frozen=True)
class Mixture:
    """Training examples, and ``about``: what they were made of, for data.json beside the training log."""

    examples: list[Example]
    about: dict

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "data.json", self.about)


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


def mixture(profile: Profile, synthetic: list[Example]) -> Mixture:
    """The examples of ``profile.data.setting``: the synthetic ones and those of labelled sets.

    Raises ReadError if a set cannot be read; counts of what was taken and dropped are printed.
    """
    data = profile.data
    chosen, sets = [], {}
    if data.setting in ("synthetic", "synthetic+msmarco", "full"):
        chosen += synthetic
        sets["synthetic"] = {"examples": len(synthetic)}
    leakage = profile.analyze.near_duplicate_threshold if profile.analyze.leakage else None
    for name in names_of(data):
        found, facts = _read_set(name, data.model_dump_json(exclude={"setting"}), leakage)
        chosen += found
        sets[name] = facts
    counts = ", ".join(f"{name} {facts['examples']:,}" for name, facts in sets.items())
    print(f"{data.setting}: {len(chosen):,} examples ({counts})", flush=True)
    about = {"setting": data.setting, "seed": data.seed, "examples": len(chosen), "sets": sets}
    if names_of(data):
        about["negatives"] = data.negatives.model_dump()
    return Mixture(chosen, about)


def describe(name: str, facts: dict) -> str:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in facts["dropped"].items())
    return (
        f"{name}: {facts['examples']:,} examples at ratio {facts['ratio']:g}, {facts['with_negative']:,} with "
        f"a hard negative ({facts['mined']:,} mined); left out: {left_out or 'none'}"
    )


def table_of(data: Data) -> dict[str, PublicSet | InstalledSet]:
    return {s.name: s for s in (PUBLIC if data.labelled == "public" else INSTALLED)}


def names_of(data: Data) -> list[str]:
    """The labelled sets of a data setting, in the table's order."""
    if data.setting == "synthetic":
        return []
    if data.setting in ("synthetic+msmarco", "msmarco"):
        return [SEARCH_SET[data.labelled]]
    return [n for n, entry in table_of(data).items() if _ratio(entry, data.sets.get(n, Source())) > 0]


def missing(data: Data) -> list[str]:
    """What is wanted of a person before the sets can be read: files that the hub does not have."""
    table = table_of(data)
    return [
        f"data.sets.{n}.source: put {wanted(table[n])} from {table[n].by_hand} into a folder and name it here"
        for n in names_of(data)
        if getattr(table[n], "by_hand", "") and not Path(data.sets.get(n, Source()).source or "-").is_dir()
    ]


def mteb_tasks(data: Data) -> list[str]:
    """mteb's tasks whose training split is among the data, for a submission's metadata."""
    table = table_of(data)
    return sorted({task for n in names_of(data) if (task := getattr(table[n], "mteb", ""))})


def _ratio(entry, source: Source) -> float:
    return entry.ratio if source.ratio is None else source.ratio


@lru_cache(32)  # every ablation asks for the same sets
def _read_set(name: str, settings: str, leakage: float | None) -> tuple[list[Example], dict]:
    """Examples of one set, and facts of how they came about for data.json; they are printed."""
    data, drops, without = Data.model_validate_json(settings), Drops(), Counter()
    entry, source = table_of(data)[name], data.sets.get(name, Source())
    sampling = Sampling(name, data, _ratio(entry, source), drops)
    parts, facts = (_installed if isinstance(entry, InstalledSet) else _public)(
        entry, source, data.seed, sampling
    )
    leaks = _leaks(leakage) if leakage else lambda example: False
    found, mined = [], 0
    for part in sampling.bounded(parts, source.limit or getattr(entry, "limit", None)):
        negatives, reasons = _mined(part, data)
        without.update(reasons)
        for candidate in part.candidates:
            example = _example(entry, candidate, negatives.get(candidate.record.id), data.seed)
            if leaks(example):
                drops.add("also in an evaluation set", example.query)
            else:
                found.append(example)
                mined += candidate.negative is None and example.negative is not None
    facts |= {
        "ratio": sampling.ratio, "examples": len(found), "with_negative": sum(e.negative is not None for e in found),
        "mined": mined, "without_negative": dict(without), "dropped": dict(drops.counts),
    }  # fmt: skip
    print(describe(name, facts), flush=True)
    return found, facts


def _example(entry: PublicSet | InstalledSet, candidate: Candidate, mined: str | None, seed: int) -> Example:
    record, negative = candidate.record, candidate.negative or mined
    instruction = min(entry.instructions, key=lambda i: seed_of(seed, entry.name, record.id, i))
    return Example(
        f"{entry.name}/{record.id}", entry.family, instruction, record.language, record.target,
        record.query[:LONGEST], candidate.positive, negative,
    )  # fmt: skip


@lru_cache(1)
def _leaks(threshold: float) -> Leakage:
    return Leakage(suite_texts(), mteb_texts(Counter()), threshold)


# --- sampling and drawing ------------------------------------------------------------------------


class Sampling:
    """Which records of a set are taken, and which of their texts: functions of (seed, set, query)."""

    def __init__(self, name: str, data: Data, ratio: float, drops: Drops):
        self.name, self.seed, self.ratio, self.drops = name, data.seed, ratio, drops
        self.seen: set[str] = set()

    def place(self, record_id: str) -> float:
        """In [0, 1): below the ratio, the record is taken."""
        return seed_of(self.seed, "sample", self.name, record_id) / 2**63

    def takes(self, record_id: str) -> bool:
        if self.place(record_id) >= self.ratio:
            self.drops.add("not sampled", record_id)
        elif record_id in self.seen:
            self.drops.add("query seen before", record_id)
        else:
            self.seen.add(record_id)
            return True
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
        elif self.takes(record_id):
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


def _installed(entry: InstalledSet, source: Source, seed: int, sampling: Sampling) -> tuple[list[Part], dict]:
    if source.source or source.revision:
        raise ReadError(f"data.sets.{entry.name}: it is read from the installation and takes no source")
    found = list(entry.read(seed, sampling.drops))
    return [_part(sampling, "", lambda: iter(found), False)], {"source": "this installation"}


def _public(entry: PublicSet, source: Source, seed: int, sampling: Sampling) -> tuple[list[Part], dict]:
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
        elif sampling.takes(record_id):
            negative = sampling.draw(record_id, set(grades) - positives)
            drawn[record_id] = (query, sampling.draw(record_id, positives), negative, positives)
    wanted = {document for _, positive, negative, _ in drawn.values() for document in (positive, negative)}
    texts = {d: text[:LONGEST] for d, text in collection.documents() if d in wanted}
    for record_id, (query, positive, negative, known) in drawn.items():
        if texts.get(positive):
            record = Record(record_id, query, (), (), collection.language)
            taken.append(Candidate(record, texts[positive], positive, texts.get(negative), known))
        else:
            sampling.drops.add("positive is not in the corpus", record_id)

    def documents() -> Iterator[tuple[str, str]]:
        return ((d, text[:LONGEST]) for d, text in collection.documents())

    return Part(taken, documents, lambda queries: {})


def _mined(part: Part, data: Data) -> tuple[dict[str, str], dict[str, int]]:
    """Negatives by query id for the candidates of a part that have none; counts of why some get none."""
    bare = [c for c in part.candidates if c.negative is None]
    if not bare or data.negatives.encoder is None:
        return {}, {"not mined": len(bare)} if bare else {}
    others = part.known_too({c.record.query for c in bare})
    asked = [
        Asked(c.record.id, c.record.query, c.positive_id, c.positive,
              c.known | others.get(c.record.query, set()) | {text_id(c.record.query)})
        for c in bare
    ]  # fmt: skip
    return mining.mine(asked, part.documents, data.negatives, data.seed, backbones.cache_folder() / "mining")
