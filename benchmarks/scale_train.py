"""What Ray costs a training, and what a second worker on a second core gives.

Three sides take turns, each a run of the same steps from the same base: this process on one core, one
worker of a cluster on one core, two workers on two cores. What is timed are the steps alone, as the
log has them: the start of Ray and of a worker, a few seconds once a run, is in the check's words.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from synthembed import profile as profiles
from synthembed.cluster import session
from synthembed.corpus import example_files
from synthembed.model import backbone as backbones
from synthembed.profile.cluster import Cluster
from synthembed.training import train as training

from benchmarks import train
from benchmarks.measure import row

SIZE = train.Size()
ROUNDS, STEPS = 2, 4  # the first step of a run warms up
EFFICIENT, OVERHEAD = 0.85, 0.05  # what is wanted


def run(size: train.Size = SIZE, rounds: int = ROUNDS, steps: int = STEPS) -> list[dict]:
    cores = sorted(psutil.Process().cpu_affinity())[:2]
    if len(cores) < 2:
        raise RuntimeError("scale/train needs two cores")
    torch.set_num_threads(1)  # as a worker's, which has one core
    sides: dict[str, list[dict]] = {"alone": [], "one worker": [], "two workers": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train.write_corpus(folder, size.batches[0] * steps, size)
        corpus = example_files.read(folder / "triplets.jsonl")[: size.batches[0] * steps]
        with session.joined(Cluster(workers=2, object_store_mb=200)):
            for turn in range(rounds):
                for number, kind in enumerate(sides):
                    pinned = cores[: 2 if number == 2 else 1]
                    sides[kind].append(
                        _run(folder / f"{turn}-{number}", folder, corpus, size, number, pinned)
                    )
    speed = {
        kind: statistics.median(made["examples_per_s"] for made in found) for kind, found in sides.items()
    }
    off = max(
        abs(x / y - 1)
        for kind in ("one worker", "two workers")
        for made, plain in zip(sides[kind], sides["alone"], strict=True)
        for x, y in zip(made["losses"], plain["losses"], strict=True)
    )
    if off > 1e-4:
        raise AssertionError(f"the losses differ by {off:.1e}")
    whole = {kind: statistics.median(made["seconds"] for made in found) for kind, found in sides.items()}
    check = f"losses agree to {max(off, 1e-7):.0e}; whole runs: " + ", ".join(
        f"{kind} {seconds:.0f} s" for kind, seconds in whole.items()
    )
    two = row(
        "scale/train", speed["two workers"], 2 * speed["one worker"], "twice one worker", "examples/s",
        f"{check}; wanted: {EFFICIENT}",
    )  # fmt: skip
    over = row(
        "scale/train-overhead", speed["one worker"], speed["alone"], "this process", "examples/s",
        f"{check}; wanted: {1 - OVERHEAD}",
    )  # fmt: skip
    return [two, over]


def _run(folder: Path, made: Path, corpus: list, size: train.Size, workers: int, cores: list[int]) -> dict:
    """One run, its processes on ``cores``, one thread each."""
    settings = {
        "backbone.model": str(made / f"base-{size.layers}"), "train.batch_size": size.batches[0],
        "train.max_length": size.max_length, "train.chunk_tokens": size.chunk_tokens,
        "train.gradient_checkpointing": False, "train.try_longest_first": False,
        "cluster": {"workers": workers} if workers else None,
    }  # fmt: skip
    profile = profiles.Profile(name="scale").with_overrides(settings)
    before, start = _pin(cores), time.perf_counter()
    try:
        training.train(profile, backbones.load(profile.backbone), corpus, folder)
    finally:
        _pin(before)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    tokens, seconds = zip(*((x["tokens"], x["tokens"] / x["tokens_per_s"]) for x in log[1:]), strict=True)
    return {
        "examples_per_s": size.batches[0] * len(tokens) / sum(seconds), "losses": [x["loss"] for x in log],
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def _pin(cores: list[int]) -> list[int]:
    """Bind this process and Ray's, whose workers inherit it, to ``cores``; returns where it was."""
    mine = psutil.Process()
    before = mine.cpu_affinity()
    for process in (mine, *mine.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended meanwhile
            process.cpu_affinity(cores)
    return before
