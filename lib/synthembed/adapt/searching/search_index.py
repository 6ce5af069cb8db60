"""Passages with their vectors, searched exactly, and kept in a file that only grows by what is new."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthembed.adapt.reading.documents import clean
from synthembed.adapt.reading.passages import Passage
from synthembed.model.encoder import Encoder

# What a model makes of these tells it from others.
PROBES = [
    "when does the ferry leave?",
    "Bees find their way home by the sun.",
    "図書館は九時に開きます。",
    "x = 1",
]
ROUNDED = 0.999  # least cosine between two readings of a text by one model


@dataclass
class Index:
    """``vectors`` (passages, dim) of length 1, float32; ``new`` of them were encoded now, the rest was kept."""

    passages: list[Passage]
    vectors: np.ndarray
    encoder: Encoder
    instruction: str
    new: int = 0

    def search(self, query: str, count: int = 10) -> list[tuple[float, Passage]]:
        """The ``count`` passages of the highest cosine to ``query``, best first."""
        query = clean(query)  # as the documents are: some keyboards write marks apart
        scores = self.vectors @ self.encoder.encode([query], self.instruction, normalize=True)[0]
        best = np.argsort(-scores, kind="stable")[:count]
        return [(float(scores[n]), self.passages[n]) for n in best]


def build(passages: list[Passage], encoder: Encoder, instruction: str, path: Path) -> Index:
    """The index of ``passages`` in ``path`` (.npz); vectors that the same model made before are read from it."""
    read_as, probes = f"{encoder.pooling} {encoder.max_length}", encoder.encode(PROBES, normalize=True)
    kept: dict[str, np.ndarray] = {}
    if path.exists():
        with np.load(path) as old:
            if str(old.get("read_as")) == read_as and _same(probes, old["probes"]):
                kept = dict(zip(old["keys"].tolist(), old["vectors"], strict=True))
    missing = [p for p in passages if p.key not in kept]
    if missing:
        made = encoder.encode([p.text for p in missing], normalize=True)
        kept |= {p.key: vector for p, vector in zip(missing, made, strict=True)}
    vectors = (
        np.stack([kept[p.key] for p in passages]) if passages else np.empty((0, encoder.dim), np.float32)
    )
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial, read_as=read_as, probes=probes, keys=np.array([p.key for p in passages]), vectors=vectors
    )
    partial.replace(path)
    return Index(passages, vectors, encoder, instruction, len(missing))


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two sets of vectors are one model's, which rounds otherwise from start to start (bfloat16 products)."""
    return one.shape == other.shape and bool(((one * other).sum(1) > ROUNDED).all())
