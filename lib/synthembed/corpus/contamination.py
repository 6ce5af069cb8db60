"""Which evaluation texts are also in what is trained on, counted by type (App. B)."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from synthembed.corpus.evaluation_texts import Evaluated
from synthembed.corpus.example import Example
from synthembed.corpus.texts import LEAST_WORDS, NearDuplicates, hash64, normalised, words

# --- what is trained on, against what is evaluated -------------------------------------------------

TYPES = {
    "low-entropy": f"fewer than {LEAST_WORDS} words, or a label: says nothing (App. B does not count it)",
    "question": "a query of training is a query of evaluation",
    "shared document": "a document of training lies in an evaluation's corpus (App. B does not count it)",
    "other": "any other text in common",
}
SAMPLES = 5  # of each type, kept in the report


def report(examples: list[Example], evaluated: Iterable[Evaluated], threshold: float | None = None) -> dict:
    """Which evaluation texts are also in training, counted by type as in Appendix B.

    Texts are equal whatever their case, spacing and punctuation of prose (``corpus.texts.normalised``); with ``threshold``
    texts of five words or more are also found by likeness (MinHash Jaccard), a quarter of a millisecond
    each. ``evaluated`` is streamed; a text that occurs more than once is counted once.
    """
    trained = _Trained(examples, threshold)
    counts = {kind: Counter(exact=0, near=0) for kind in TYPES}
    sets, checked, samples = defaultdict(Counter), Counter(), defaultdict(list)
    seen: set[tuple[str, int]] = set()
    for one in evaluated:
        plain = normalised(one.text)
        if not plain:
            continue
        checked[one.set] += 1
        key = hash64(plain.encode())
        short = one.kind == "label" or len(words(one.text)) < LEAST_WORDS
        how, match = trained.find(one, key, short)
        if match is None or (one.kind, key) in seen:
            continue
        seen.add((one.kind, key))
        number, role = divmod(match, len(_ROLES))
        example = examples[number]
        kind = "low-entropy" if short else _TYPE_OF.get((_ROLES[role], one.kind), "other")
        counts[kind][how] += 1
        source, slash, _ = example.id.partition("/")
        sets[source if slash else "synthetic"][kind] += 1
        if len(samples[kind]) < SAMPLES:
            ours = getattr(example, _ROLES[role])
            samples[kind].append(
                {"match": how, "training": example.id, "role": _ROLES[role], "text": ours[:200],
                 "evaluation": one.set, "kind": one.kind, "evaluation text": one.text[:200]}
            )  # fmt: skip
    return {
        "training": {"examples": len(examples), "texts": trained.count},
        "evaluation": {"texts": sum(checked.values()), "sets": dict(checked)},
        "near": threshold,
        "types": {kind: {"meaning": TYPES[kind], **counts[kind]} for kind in TYPES},
        "by training set": {name: dict(found) for name, found in sorted(sets.items())},
        "samples": dict(samples),
    }


_ROLES = ("query", "positive", "negative")
_TYPE_OF = {
    ("query", "query"): "question",
    ("positive", "document"): "shared document",
    ("negative", "document"): "shared document",
}


class _Trained:
    """The texts of training, found by their normalised form and, with a threshold, by likeness.

    A text's place is its example's number times three, plus its role's.
    """

    def __init__(self, examples: list[Example], threshold: float | None):
        keys, places = array("Q"), array("Q")  # 16 bytes a text: full data has millions
        self.near = NearDuplicates(threshold) if threshold else None
        self.count = 0
        for number, example in enumerate(examples):
            for role, name in enumerate(_ROLES):
                if text := getattr(example, name):
                    self.count += 1
                    keys.append(hash64(normalised(text).encode()))
                    places.append(number * len(_ROLES) + role)
                    if self.near:
                        self.near.seen(str(places[-1]), text)
        order = np.argsort(np.array(keys, dtype=np.uint64), kind="stable")
        self.keys = np.array(keys, dtype=np.uint64)[order]
        self.places = np.array(places, dtype=np.uint64)[order]

    def find(self, one: Evaluated, key: int, short: bool) -> tuple[str, int | None]:
        """How a training text was found ("exact" or "near") and its place, None if there is none; of equal
        texts, one whose role goes with the evaluation text's kind, or else the first."""
        first, last = (int(np.searchsorted(self.keys, np.uint64(key), side)) for side in ("left", "right"))
        if first < last:
            places = [int(p) for p in self.places[first:last]]
            return "exact", next((p for p in places if (_ROLES[p % 3], one.kind) in _TYPE_OF), places[0])
        if self.near and not short:
            found = self.near.find(one.text)
            return "near", int(found) if found else None
        return "", None
