"""A trained model read in other ways, without training: fewer dimensions, fewer bits, other instructions.

Stored vectors are what costs memory. Of retrieval these are the documents', so a query keeps its 32 bits with
int8 and with binary vectors that are rescored; with plain binary vectors both sides are signs.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from mteb.types import PromptType

from synthembed.evaluation.protocol import MtebEncoder
from synthembed.ground.files import read_yaml
from synthembed.profile.experiment_settings import Reading

PACKAGE_DATA = ("instructions.yaml",)
BITS = {"float32": 32, "int8": 8, "binary": 1, "binary-rescored": 1}
RESCORED = 40  # documents of a query that the float query looks at again: four times the ten that count


def bytes_of(dims: int, precision: str) -> float:
    """Bytes of a stored vector."""
    return dims * BITS[precision] / 8


class Remembered:
    """An encoder that keeps every vector: readings of one model that differ in what becomes of its vectors alone
    run it once."""

    def __init__(self, encoder):
        self.encoder, self.seen = encoder, {}

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def encode(self, texts, instruction="", normalize=None, progress=None) -> np.ndarray:
        kept = self.seen.setdefault((instruction, normalize), {})
        if new := [t for t in dict.fromkeys(texts) if t not in kept]:
            kept |= dict(zip(new, self.encoder.encode(new, instruction, normalize, progress), strict=True))
        return np.stack([kept[t] for t in texts])


class Read(MtebEncoder):
    """``plain`` (systems.subject) under a reading, for mteb."""

    def __init__(self, plain: MtebEncoder, reading: Reading, memory: Remembered):
        self.__dict__ |= plain.__dict__
        self.reading, self.cut = reading, {}
        self.model = self.encoder = memory

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        vectors = super().encode(
            inputs,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            prompt_type=prompt_type,
            **kwargs,
        )
        normalize = task_metadata.type != "Classification" or self.protocol.normalize_classification
        return stored(vectors, self.reading, prompt_type == PromptType.query, normalize)

    def before(self, task, prompt_type) -> str:
        own = super().before(task, prompt_type)
        return own and instruction_of(task.name, own, self.reading.instruction)

    def similarity(self, first, second):
        if self.reading.precision == "binary-rescored":
            return rescored(torch.as_tensor(first).float(), torch.as_tensor(second).float())
        return super().similarity(first, second)


def stored(vectors: np.ndarray, reading: Reading, query: bool, normalize: bool) -> np.ndarray:
    """What is left of ``vectors`` (n, dim) when they are stored as ``reading`` says, as float32 again."""
    if reading.dims and reading.dims > vectors.shape[1]:
        raise ValueError(
            f"reading {reading.id!r}: dims = {reading.dims}, but vectors have {vectors.shape[1]}"
        )
    vectors = vectors[:, : reading.dims] if reading.dims else vectors
    if reading.dims and normalize:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    if reading.precision == "binary" or (reading.precision == "binary-rescored" and not query):
        return np.where(vectors > 0, 1, -1).astype(np.float32)
    if reading.precision == "int8" and not query:
        return int8(vectors)
    return vectors


def int8(vectors: np.ndarray) -> np.ndarray:
    """Each dimension in 255 even steps between its least and its largest value among ``vectors``."""
    low, high = vectors.min(0), vectors.max(0)
    step = ((high - low) / 255).clip(1e-12)
    levels = np.round((vectors - low) / step)
    return (low + levels * step).astype(np.float32)


def rescored(queries: torch.Tensor, documents: torch.Tensor, first: int = RESCORED) -> torch.Tensor:
    """(queries, documents): the ``first`` documents by agreement of signs are ordered by the cosine of the float
    query with the document's signs, and come before all others (Yamada et al., 2021)."""
    unit = torch.nn.functional.normalize(queries, dim=1)
    signs = documents.sign() / documents.shape[1] ** 0.5
    agreement = torch.where(queries > 0, 1.0, -1.0) @ documents.sign().T / documents.shape[1]
    top = agreement.topk(min(first, documents.shape[0]), 1).indices
    scores = agreement - 4  # below every cosine
    return scores.scatter(1, top, (unit @ signs.T).gather(1, top))


@cache
def _table() -> dict[str, dict[str, str]]:
    return read_yaml(Path(__file__).parent / "instructions.yaml")


def instruction_of(task: str, own: str, kind: str) -> str:
    """The instruction of a task as a reading has it. Raises KeyError naming the task and the remedy if the table
    has none for it."""
    if kind in ("own", "empty"):
        return own if kind == "own" else ""
    try:
        return _table()[task][kind]
    except KeyError:
        raise KeyError(f"{task} has no {kind} instruction: write one into beyond/instructions.yaml") from None
