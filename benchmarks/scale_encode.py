"""What Ray costs an encoding, what a second worker on a second core gives, and what the driver holds.

The sides take turns, each over the same texts into blocks of the same size: this process on one core, one
worker on one core, two workers on two. The start of workers is not timed. The driver's memory is looked at
from the first to the thousandth block.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from synthembed import profile as profiles
from synthembed.cluster import actor_pool, session
from synthembed.cluster.actor_pool import Pool
from synthembed.model import backbone
from synthembed.model.blocks import store as blocks
from synthembed.model.blocks.spread import BlockWorker, over
from synthembed.model.encoder import Encoder
from synthembed.profile.cluster import Cluster
from synthembed.profile.settings import Backbone

from benchmarks import encode
from benchmarks.measure import in_turn, row

TEXTS, BLOCK, ROUNDS = 192, 32, 3
SHARDS, TINY = 1_000, 4  # blocks of so many texts: what grows with their number shows
EFFICIENT, OVERHEAD, GROWN_MB = 0.85, 0.05, 20.0  # what is wanted


def run(
    settings: Backbone | None = None, texts: int = TEXTS, rounds: int = ROUNDS, shards: int = SHARDS
) -> list[dict]:
    cores = sorted(psutil.Process().cpu_affinity())[:2]
    if len(cores) < 2:
        raise RuntimeError("scale/encode needs two cores")
    torch.set_num_threads(1)  # as a worker's, which has one core
    encoder = Encoder(backbone.load(settings or profiles.load("laptop").backbone))
    rng = np.random.default_rng(0)
    corpus = [" ".join(rng.choice(encode_words(), int(n))) for n in rng.integers(8, 80, texts)]
    with (
        tempfile.TemporaryDirectory() as folder,
        session.joined(Cluster(workers=2, object_store_mb=200)) as ray,
        actors_of(ray, encoder, 2) as two,
    ):
        with actors_of(ray, encoder, 1) as one:
            rows = speeds(one, two, encoder, corpus, Path(folder), cores, rounds)
        return [*rows, memory(two, encoder, Path(folder), shards)]


def encode_words() -> list[str]:
    """Words to make documents of: those of the embedded suite's tasks."""
    return sorted(
        {word for _, texts in encode.workloads()["encode/mix"] for text in texts for word in text.split()}
    )


def speeds(
    one: Pool, two: Pool, encoder: Encoder, corpus: list[str], folder: Path, cores: list[int], rounds: int
) -> list[dict]:
    """Rows of two workers against twice one, and of one against this process."""
    runs, kept = iter(range(10_000)), {}

    def keep(kind: str, on: list[int], run=None) -> None:
        with pinned(on):
            store = blocks.Store(str(folder / f"{kind}-{next(runs)}"))
            kept[kind] = store, blocks.keep(encoder, corpus, blocks.Reading("bench"), store, run=run)

    with block_of(BLOCK):
        sides = {
            "alone": lambda: keep("alone", cores[:1]),
            "one": lambda: keep("one", cores[:1], over(one)),
            "two": lambda: keep("two", cores, over(two)),
        }
        for side in sides.values():
            side()  # the first blocks of a worker warm it up
        seconds = in_turn(sides, rounds)
    speed = {kind: len(corpus) / spent for kind, spent in seconds.items()}
    vectors = {kind: blocks.vectors_of(*of) for kind, of in kept.items()}
    off = max(float(np.abs(vectors[kind] - vectors["alone"]).max()) for kind in ("one", "two"))
    if off > 1e-4:
        raise AssertionError(f"the vectors differ by {off:.1e}")
    check = f"vectors agree to {max(off, 1e-7):.0e}"
    return [
        row("scale/encode", speed["two"], 2 * speed["one"], "twice one worker", "texts/s", f"{check}; wanted: {EFFICIENT}"),
        row("scale/encode-overhead", speed["one"], speed["alone"], "this process", "texts/s", f"{check}; wanted: {1 - OVERHEAD}"),
    ]  # fmt: skip


def memory(pool: Pool, encoder: Encoder, folder: Path, shards: int) -> dict:
    """What the driver holds more after ``shards`` blocks than after a tenth of them, in MB."""
    me, held = psutil.Process(), []
    texts = (f"text {n} of many" for n in range(shards * TINY))
    with block_of(TINY):

        def looked_at(missing, reading, store, advance):
            for block in over(pool)(missing, reading, store, advance):
                held.append(me.memory_info().rss / 1e6)
                yield block

        blocks.keep(
            encoder, texts, blocks.Reading("memory"), blocks.Store(str(folder / "many")), run=looked_at
        )
    grown = max(held[-shards // 10 :]) - max(held[: max(1, shards // 10)])
    check = f"{held[0]:,.0f} MB at the first of {len(held):,} blocks, {held[-1]:,.0f} at the last; wanted: below {GROWN_MB:g}"
    return row("scale/encode-memory", max(grown, 0.0), None, "", "MB", check)


def actors_of(ray, encoder: Encoder, workers: int):
    encoder.prefixes.clear()
    return actor_pool.actors(
        ray, partial(BlockWorker, encoder), Cluster(workers=workers, cpus_per_worker=0.5)
    )


@contextmanager
def block_of(texts: int):
    before, blocks.BLOCK = blocks.BLOCK, texts
    try:
        yield
    finally:
        blocks.BLOCK = before


@contextmanager
def pinned(cores: list[int]):
    """This process and its children, Ray's workers among them, on ``cores``."""
    me = psutil.Process()
    before = me.cpu_affinity()
    family = [me, *me.children(recursive=True)]
    try:
        for process in family:
            process.cpu_affinity(cores)
        yield
    finally:
        for process in family:
            if process.is_running():
                process.cpu_affinity(before)
