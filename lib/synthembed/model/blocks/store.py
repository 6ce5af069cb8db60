"""A corpus's vectors in blocks, each kept under a hash of what it was made from.

A block's name is the hash of its texts and of all that moves its vectors (weights, instruction, lengths,
dtype), so that a run that was killed finds its blocks by making their names again, whoever made them: this
process, another one, or a worker on another machine. They lie in a folder or wherever fsspec can write.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import fsspec
import numpy as np
from torch.nn import functional as F

from synthembed.ground.console import Progress
from synthembed.model.encoder import Encoder, EncodingError

BLOCK = 8_192  # texts of a block: what a killed run may have to encode again
WRITES = 3  # times that a write is tried before its error is passed on


class BlockError(RuntimeError):
    """A block that cannot be read; the message says which and what to do."""


@dataclass(frozen=True)
class Block:
    """What a name says of a block: the hash, texts, how many of them are distinct, and of these were cut, or
    are in signs that the tokenizer does not know (which few blocks have, so that most names do without)."""

    digest: str
    rows: int
    distinct: int
    cut: int
    unknown: int = 0

    @property
    def name(self) -> str:
        unknown = f"-{self.unknown}" if self.unknown else ""
        return f"{self.digest}-{self.rows}-{self.distinct}-{self.cut}{unknown}.npy"

    @classmethod
    def named(cls, name: str) -> Block | None:
        digest, *numbers = name.removesuffix(".npy").split("-")
        whole = name.endswith(".npy") and len(numbers) in (3, 4) and all(n.isdigit() for n in numbers)
        return cls(digest, *map(int, numbers)) if whole else None


@dataclass(frozen=True)
class Reading:
    """All that moves a vector beside its text. ``identity`` names the weights; vectors are kept in ``dtype``."""

    identity: str
    instruction: str = ""
    normalize: bool = True
    dtype: str = "float32"

    def key(self, encoder: Encoder) -> str:
        made_from = [self.identity, self.instruction, self.normalize, self.dtype, encoder.dim]
        made_from += [encoder.max_length, encoder.pooling, type(encoder).__name__]
        return json.dumps(made_from)


@dataclass(frozen=True)
class Store:
    """Blocks below ``root``, a folder or a URL of fsspec (s3://bucket/folder; its package must be installed)."""

    root: str

    @cached_property
    def _place(self):
        return fsspec.core.url_to_fs(self.root)

    def __getstate__(self):
        return {"root": self.root}  # a connection stays in its process

    def blocks(self) -> dict[str, Block]:
        """What is there, by hash."""
        files, folder = self._place
        files.invalidate_cache()
        listed = files.ls(folder, detail=False) if files.exists(folder) else []
        found = [Block.named(path.rstrip("/").rpartition("/")[2]) for path in listed]
        return {block.digest: block for block in found if block}

    def read(self, block: Block) -> np.ndarray:
        """The vectors, (rows, dim). Raises BlockError if they are not there whole."""
        files, folder = self._place
        path = f"{folder}/{block.name}"
        try:
            vectors = np.load(io.BytesIO(files.cat_file(path)), allow_pickle=False)
            if len(vectors) == block.rows:
                return vectors
            why = f"{len(vectors):,} vectors"
        except (OSError, ValueError) as error:
            why = str(error)
        raise BlockError(f"{path} is not whole ({why}): delete it and run again, it alone is made anew")

    def write(self, block: Block, vectors: np.ndarray) -> None:
        """Whole or not at all; a write that fails is tried again, twice."""
        files, folder = self._place
        data = io.BytesIO()
        np.save(data, vectors, allow_pickle=False)
        for left in reversed(range(WRITES)):
            partial = f"{folder}/{uuid.uuid4().hex}.partial"
            try:
                files.makedirs(folder, exist_ok=True)
                files.pipe_file(partial, data.getvalue())
                return files.mv(partial, f"{folder}/{block.name}")
            except OSError:
                if not left:
                    raise
                time.sleep(0.2)

    def clear(self) -> None:
        files, folder = self._place
        if files.exists(folder):
            files.rm(folder, recursive=True)


def digest_of(key: str, texts: list[str]) -> str:
    """32 hex digits over how texts are read (``Reading.key``) and the texts."""
    digest = hashlib.sha256(key.encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def encode_block(
    encoder: Encoder, texts: list[str], reading: Reading, store: Store, digest: str, rows=None, advance=None
) -> Block:
    """Encode one block and keep it; ``rows`` is what ``rows_of`` gave for it, if it was asked already."""
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    rows, cut, unknown = rows or rows_of(encoder, texts, reading.instruction)
    vectors = encoder.encode_rows(rows, encoder.begin(reading.instruction), advance)
    with np.errstate(over="ignore"):  # which is refused below
        vectors = (
            (F.normalize(vectors, dim=-1) if reading.normalize else vectors).numpy().astype(reading.dtype)
        )
    if not np.isfinite(vectors).all():  # the encoder's are: what overflows is float16
        raise EncodingError(f"vectors do not fit into {reading.dtype}: normalise them, or keep float32")
    block = Block(digest, len(texts), len(rows), cut, unknown)
    store.write(block, vectors[[place[t] for t in texts]])
    return block


def rows_of(encoder: Encoder, texts: list[str], instruction: str) -> tuple[list[list[int]], int, int]:
    """Ids of the distinct texts, how many of these were cut, and how many are in unknown signs."""
    read = encoder.backbone.contract.read
    before = read.copy()
    rows = encoder.rows(list(dict.fromkeys(texts)), instruction)
    return rows, read["cut"] - before["cut"], read["unknown"] - before["unknown"]


# Encodes the blocks that are missing, (hash, texts) one by one, and gives each when it is kept, in any order;
# may say in between how many texts of a block are done.
Run = Callable[[Iterator[tuple[str, list[str]]], Reading, Store, Callable[[int], None]], Iterable[Block]]


def here(encoder: Encoder) -> Run:
    """Blocks are encoded in this process; the next one is read and tokenised while the model works."""

    def run(missing, reading, store, advance):
        def prepare():
            if (found := next(missing, None)) is None:
                return None
            return *found, rows_of(encoder, found[1], reading.instruction)

        with ThreadPoolExecutor(1) as ahead:
            prepared = ahead.submit(prepare)
            while block := prepared.result():
                prepared = ahead.submit(prepare)
                digest, texts, rows = block
                yield encode_block(encoder, texts, reading, store, digest, rows, advance)

    return run


def keep(
    encoder: Encoder, texts: Iterable[str], reading: Reading, store: Store,
    progress: Progress | None = None, total: int | None = None, run: Run | None = None,
) -> list[Block]:  # fmt: skip
    """Have every text's vector in ``store``; the blocks, in the order of ``texts``, which are read once.

    Blocks that are there are not encoded again. Memory is bounded by a few blocks. ``run`` says where they are
    encoded: here, unless given.
    """
    key, have, waiting = reading.key(encoder), store.blocks(), iter(texts)
    order: list[str] = []
    kept = made = 0

    def missing():
        nonlocal kept
        asked = set()
        while block := list(islice(waiting, BLOCK)):
            order.append(digest := digest_of(key, block))
            if digest in have:
                kept += len(block)
            elif digest not in asked:
                asked.add(digest)
                yield digest, block

    def advance(done: int) -> None:
        if progress:
            here = made + done
            note = f"({kept:,} were kept before)" if kept else ""
            progress(here, max(total - kept, here) if total else here, note)

    for block in (run or here(encoder))(missing(), reading, store, advance):
        have[block.digest] = block
        made += block.rows
        advance(0)
    return [have[digest] for digest in order]


def vectors_of(store: Store, blocks: list[Block]) -> np.ndarray:
    """All vectors, (texts, dim), float32."""
    parts = (store.read(block) for block in blocks)
    return np.concatenate([part.astype(np.float32) for part in parts])
