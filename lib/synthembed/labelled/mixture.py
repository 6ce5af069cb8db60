"""Labelled data and the mixture that is trained on: the data settings of Tables 1 and 5 (App. A).

Each set gives one example a query (NLI, ELI5 and Quora one a row): one positive, one hard negative, the
negative mined where the set has none. Whether a query is taken, and which of its texts are drawn,
depends on (seed, set, query) alone, so neither the order of files nor what else is in the mixture
changes an example.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from synthembed.corpus.evaluation_texts import mteb_texts, suite_texts
from synthembed.corpus.example import Drops, Example
from synthembed.corpus.filters import Leakage
from synthembed.ground.files import write_json
from synthembed.ground.seeding import seed_of
from synthembed.ground.weights import embedded
from synthembed.labelled import mining, selection
from synthembed.labelled.drawing import Candidate, Part, Sampling, parts_of_installed, parts_of_public
from synthembed.labelled.installed_sets import INSTALLED, InstalledSet
from synthembed.labelled.mining import Asked
from synthembed.labelled.public_sets import MSMARCO, PUBLIC, PublicSet, wanted
from synthembed.labelled.readers import LONGEST, text_id
from synthembed.profile.settings import Data, Profile, Source

SEARCH_SET = {"public": MSMARCO, "installed": "docstrings"}  # of the settings that name MS-MARCO


@dataclass(frozen=True)
class Mixture:
    """Training examples, and ``about``: what they were made of, for data.json beside the training log."""

    examples: list[Example]
    about: dict

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "data.json", self.about)


def mixture(profile: Profile, synthetic: list[Example]) -> Mixture:
    """The examples of ``profile.data.setting``: the synthetic ones and those of labelled sets.

    Raises ReadError if a set cannot be read; counts of what was taken and dropped are printed.
    """
    data = profile.data
    chosen, sets = [], {}
    if data.setting in ("synthetic", "synthetic+msmarco", "full"):
        left_out = {}
        if data.select:
            synthetic, left_out = selection.selected(synthetic, data.select, data.seed)
        chosen += synthetic
        sets["synthetic"] = {"examples": len(synthetic)} | ({"left_out": left_out} if left_out else {})
    leakage = profile.analyze.near_duplicate_threshold if profile.analyze.leakage else None
    for name in names_of(data):
        found, facts = _read_set(
            name, data.model_dump_json(exclude={"setting", "shuffled", "select"}), leakage
        )
        chosen += found
        sets[name] = facts
    counts = ", ".join(f"{name} {facts['examples']:,}" for name, facts in sets.items())
    print(f"{data.setting}: {len(chosen):,} examples ({counts})", flush=True)
    about = {"setting": data.setting, "seed": data.seed, "examples": len(chosen), "sets": sets}
    if names_of(data):
        about["negatives"] = data.negatives.model_dump()
    if data.shuffled:
        chosen, about["shuffled"] = shuffled(chosen, data.seed), True
        print("  shuffled: every query has the documents of another one", flush=True)
    return Mixture(chosen, about)


def shuffled(examples: list[Example], seed: int) -> list[Example]:
    """The control that must fail: each query with the documents of another query of its family, in the order
    of ``examples``. All texts, lengths and instructions stay, only what belongs together is lost."""
    given: dict[str, Example] = {}
    for family in dict.fromkeys(e.family for e in examples):
        among = [e for e in examples if e.family == family]
        among.sort(key=lambda e: seed_of(seed, "shuffled", e.id))
        given |= {e.id: other for e, other in zip(among, among[1:] + among[:1], strict=True)}
    own = ((e, given[e.id]) for e in examples)
    return [replace(e, positive=o.positive, negative=o.negative, further=o.further) for e, o in own]


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
    parts, facts = (parts_of_installed if isinstance(entry, InstalledSet) else parts_of_public)(
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
    return mining.mine(asked, part.documents, data.negatives, data.seed, embedded.cache_folder() / "mining")
