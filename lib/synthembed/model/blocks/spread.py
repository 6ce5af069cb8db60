"""One corpus over several workers: each encodes blocks, and searches them, where all of them can read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np

from synthembed.cluster import actor_pool, session
from synthembed.cluster.actor_pool import Pool
from synthembed.cluster.session import ClusterError
from synthembed.ground import hardware
from synthembed.ground.console import Progress
from synthembed.model.blocks.nearest import merged, nearest
from synthembed.model.blocks.store import Block, Reading, Run, Store, encode_block, keep
from synthembed.model.cpu import bfloat16_linear
from synthembed.model.cpu.int8_linear import Int8Linear
from synthembed.model.encoder import Encoder
from synthembed.model.vector_files import VectorsError
from synthembed.profile.cluster import Cluster

PART = 16  # blocks that a worker searches at a time


class BlockWorker:
    """What a worker holds to encode and to search: a model, which it puts on its own device, as precise as it
    came. Weights in int8 stay on the CPU, which they are made for."""

    def __init__(self, encoder: Encoder):
        self.encoder, model, on = encoder, encoder.backbone.model, hardware.device()
        if on.type != "cpu" and not any(isinstance(module, Int8Linear) for module in model.modules()):
            bfloat16_linear.give_way(model)
            model.to(on)

    def encode(self, digest: str, texts: list[str], reading: Reading, store: Store) -> Block:
        return encode_block(self.encoder, texts, reading, store, digest)

    def nearest(
        self, number: int, vectors: np.ndarray, store: Store, blocks: list[Block], k: int, start: int
    ):
        return nearest(vectors, map(store.read, blocks), k, self.encoder.backbone.device, start)


@contextmanager
def on_cpu(encoder: Encoder) -> Iterator[None]:
    """The weights on the CPU within the block. Keys and values are made again where they are needed."""
    encoder.prefixes.clear()
    with hardware.on_cpu(encoder.backbone.model):
        yield


def over(pool: Pool) -> Run:
    """Blocks are encoded by ``pool``'s workers; only texts and names pass through this process. Raises
    ClusterError if a worker's block is not seen here."""

    def run(missing, reading, store, advance):
        jobs = ((digest, texts, reading, store) for digest, texts in missing)
        for number, (_, block) in enumerate(pool.map("encode", jobs)):
            if number == 0 and block.digest not in store.blocks():
                raise ClusterError(
                    f"a worker's vectors are not in {store.root}, where this process looks for them: set "
                    "cluster.storage to a folder that all nodes share, or a URL such as s3://bucket/folder"
                )
            yield block

    return run


def nearest_over(pool: Pool, vectors: np.ndarray, store: Store, blocks: list[Block], k: int):
    """As ``nearest``, by ``pool``'s workers, ``PART`` blocks at a time."""
    sent, starts = pool.share(vectors), [0, *accumulate(b.rows for b in blocks)]
    jobs = (
        (number, sent, store, blocks[at : at + PART], k, starts[at])
        for number, at in enumerate(range(0, len(blocks), PART))
    )
    found = {job[0]: result for job, result in pool.map("nearest", jobs)}
    return merged([found[number] for number in sorted(found)], k)


def encode_to(
    encoder: Encoder,
    texts: Iterable[str],
    path: Path,
    reading: Reading,
    cluster: Cluster,
    total: int | None = None,
) -> tuple[int, int, int]:
    """As ``vector_files.encode_to``, by the workers of a cluster: the vectors of ``texts``, (count, dim), are a
    ``.npy`` at ``path``. A run that was killed finds its blocks again, in ``<path>.blocks`` or in the cluster's
    storage; they go when the file is whole. Returns the count, and how many distinct texts of a block were cut
    and how many are in signs that the tokenizer does not know. Raises VectorsError if ``path`` is there."""
    if path.exists():
        raise VectorsError(f"{path.name} is there already: delete it, or choose another name")
    store = Store(f"{cluster.storage}/{path.name}.blocks" if cluster.storage else f"{path.absolute()}.blocks")
    with (
        session.joined(cluster) as ray,
        on_cpu(encoder),
        actor_pool.actors(ray, partial(BlockWorker, encoder), cluster) as pool,
    ):
        blocks = keep(encoder, texts, reading, store, Progress("encoding", "texts"), total, over(pool))
    count, partial_file, at = sum(b.rows for b in blocks), path.with_name(path.name + ".partial"), 0
    whole = np.lib.format.open_memmap(partial_file, "w+", reading.dtype, (count, encoder.dim))
    for block in blocks:
        whole[at : at + block.rows] = store.read(block)
        at += block.rows
    whole.flush()
    partial_file.replace(path)
    store.clear()
    return count, sum(b.cut for b in blocks), sum(b.unknown for b in blocks)
