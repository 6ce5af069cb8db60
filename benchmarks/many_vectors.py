"""Exact search over more vectors than memory should hold: ``python -m benchmarks.many_vectors [VECTORS] [DIM]``.

Writes seeded vectors in an evaluation's own blocks (float16, in a temporary folder), searches them by the
library's search, and looks at the memory meanwhile. The answer to a sample of the queries must be that of all their
cosines in float64, sorted. Prints a row and keeps nothing.
"""

from __future__ import annotations

import sys
import tempfile
import time

import numpy as np
import psutil
from synthembed.ground.console import Progress
from synthembed.model.blocks.nearest import nearest
from synthembed.model.blocks.store import BLOCK, Block, Store

from benchmarks.measure import row

VECTORS, DIM, QUERIES, K = 10_000_000, 64, 64, 100
SAMPLE = 4  # queries whose cosines are all computed
EQUAL = 1e-6  # cosines of float32 that differ by less may change places
FIRST = 100  # blocks after which memory must not grow any more


def made(number: int, rows: int, dim: int) -> np.ndarray:
    """The vectors of a block, (rows, dim)."""
    return np.random.default_rng([19, number]).standard_normal((rows, dim), np.float32).astype(np.float16)


def written(store: Store, vectors: int, dim: int) -> list[Block]:
    progress, blocks = Progress("writing", "vectors", every=30), []
    for number, start in enumerate(range(0, vectors, BLOCK)):
        rows = min(BLOCK, vectors - start)
        blocks.append(Block(f"{number:032x}", rows, rows, 0))
        store.write(blocks[-1], made(number, rows, dim))
        progress(start + rows, vectors)
    return blocks


def searched(store: Store, blocks: list[Block], queries: np.ndarray, k: int):
    """(cosines, positions, resident MB when a block is read) of the ``k`` nearest."""
    process, held = psutil.Process(), []
    progress = Progress("searching", "blocks", every=30)

    def read():
        for number, block in enumerate(blocks, 1):
            yield store.read(block)
            held.append(process.memory_info().rss / 1e6)
            progress(number, len(blocks))

    return *nearest(queries, read(), k), held


def exact(store: Store, blocks: list[Block], queries: np.ndarray) -> np.ndarray:
    """Every cosine, (queries, vectors), in float64."""
    asked = queries.astype(np.float64)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    parts = (store.read(block).astype(np.float64) for block in blocks)
    return np.concatenate([asked @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T for v in parts], axis=1)


def run(vectors: int = VECTORS, dim: int = DIM, queries: int = QUERIES, k: int = K) -> list[dict]:
    asked = np.random.default_rng(20).standard_normal((queries, dim), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        blocks = written(store, vectors, dim)
        started = time.perf_counter()
        _, places, held = searched(store, blocks, asked, k)
        seconds = time.perf_counter() - started
        cosines = exact(store, blocks, asked[:SAMPLE])
    same = 0
    for mine, of in zip(places, cosines, strict=False):
        right = np.argpartition(-of, k)[:k]
        right = right[np.lexsort((right, -of[right]))]
        same += int((mine == right).sum())
        if len(set(mine.tolist())) < k or np.abs(of[mine] - of[right]).max() > EQUAL:
            raise AssertionError("the nearest vectors are not those of the highest cosines")
    grown = max(held) - max(held[:FIRST])
    check = (
        f"{vectors:,} vectors of {dim}, {vectors * dim * 2 / 1e9:.1f} GB, for {queries} queries; {same} of the "
        f"{SAMPLE * k} nearest of {SAMPLE} queries at the place that float64 gives them, the rest within {EQUAL:g}; "
        f"{seconds:.0f} s; grown by {grown:.0f} MB after the first {FIRST} blocks"
    )
    return [row("search/memory", max(held), None, "", "MB resident at most", check)]


if __name__ == "__main__":
    for found in run(*(int(word) for word in sys.argv[1:3])):
        print(f"{found['ours']:.0f} {found['unit']}: {found['check']}")
