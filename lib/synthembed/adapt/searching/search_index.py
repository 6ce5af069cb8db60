"""Passages with their vectors, searched exactly, and kept in a file that only grows by what is new."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthembed.adapt.passages import Passage
from synthembed.model.encoder import Encoder


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
        scores = self.vectors @ self.encoder.encode([query], self.instruction, normalize=True)[0]
        best = np.argsort(-scores, kind="stable")[:count]
        return [(float(scores[n]), self.passages[n]) for n in best]


def build(passages: list[Passage], encoder: Encoder, instruction: str, path: Path) -> Index:
    """The index of ``passages`` in ``path`` (.npz); vectors that the same model made before are read from it."""
    identity = _identity(encoder)
    kept: dict[str, np.ndarray] = {}
    if path.exists():
        with np.load(path) as old:
            if str(old["identity"]) == identity:
                kept = dict(zip(old["keys"].tolist(), old["vectors"], strict=True))
    missing = [p for p in passages if p.key not in kept]
    if missing:
        made = encoder.encode([p.text for p in missing], normalize=True)
        kept |= {p.key: vector for p, vector in zip(missing, made, strict=True)}
    vectors = (
        np.stack([kept[p.key] for p in passages]) if passages else np.empty((0, encoder.dim), np.float32)
    )
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, identity=identity, keys=np.array([p.key for p in passages]), vectors=vectors)
    partial.replace(path)
    return Index(passages, vectors, encoder, instruction, len(missing))


def _identity(encoder: Encoder) -> str:
    """What tells a model from others: how it is read, and its answer to a fixed text."""
    probe = encoder.encode(["what a model makes of this text tells it from others"], normalize=True)
    told = f"{encoder.pooling} {encoder.max_length} {probe.round(4).tolist()}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]
