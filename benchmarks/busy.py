"""What a busy machine costs: speed beside two processes that take all they get, of the speed on idle cores.

A row says how much of its share is left: two cores and two busy processes leave a half, and at half of the
idle speed the row has 1. The peer is the same code with OpenMP's threads spinning while they wait, as they do
by default; the package lets them spin shortly (synthembed/__init__.py). Each side is a process of its own; both
make a pass in turn, first alone and then beside the busy processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from synthembed.ground.files import ROOT

from benchmarks import train
from benchmarks.measure import row

BUSY = 2
UNSET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SPIN = "while os.getppid() == {}: pass"  # ends with the process that began it
TEXTS, EXAMPLES, ROUNDS = 128, 12, 5
SIZE = replace(train.Size(), batches=(EXAMPLES, EXAMPLES))


def run(size: train.Size = SIZE, texts: int = TEXTS, rounds: int = ROUNDS) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        train.write_corpus(Path(folder), max(size.batches[0], texts // 2), size)
        tasks = {"busy/encode": {"texts": texts}, "busy/train": {"batch": size.batches[0]}}
        common = {"folder": folder, "kind": "ours", "size": size.__dict__}
        return [measured(name, common | task, rounds) for name, task in tasks.items()]


def measured(name: str, task: dict, rounds: int) -> dict:
    """A row: what is left of the share beside the busy processes, with a short spin and with the default one."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    sides = {"short": Side(task, by_default=False), "default": Side(task, by_default=True)}
    try:
        for side in sides.values():
            side.step("warm")
        for _ in range(rounds):
            for side in sides.values():
                side.step("idle")
                with busy_processes():
                    side.step("busy")
    finally:
        for side in sides.values():
            side.close()
    cores = os.cpu_count() or 1
    kept = {k: s.median("idle") / s.median("busy") * (cores + BUSY) / cores for k, s in sides.items()}
    seconds = "; ".join(
        f"{k}: {s.median('idle'):.2f} s idle, {s.median('busy'):.2f} s busy" for k, s in sides.items()
    )
    check = f"{seconds}; {_agreement(*sides.values())}; load before {load:.1f}"
    found = row(name, kept["short"], kept["default"], "default spin", "of its share of the idle speed", check)
    return found | {"ratio": kept["short"]}


@contextmanager
def busy_processes():
    command = [sys.executable, "-c", f"import os\n{SPIN.format(os.getpid())}"]
    processes = [subprocess.Popen(command) for _ in range(BUSY)]
    time.sleep(0.2)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _agreement(a: Side, b: Side) -> str:
    """The check that both did the same: a pass's loss, or the sum of its vectors, pass by pass."""
    off = max(abs(x / y - 1) for x, y in zip(a.values, b.values, strict=True))
    if off > 1e-3:
        raise AssertionError(f"the results with a short spin and with the default one differ by {off:.2%}")
    return f"results agree to {max(off, 1e-7):.1e}"


class Side:
    """A process that makes a pass whenever it is asked to."""

    def __init__(self, task: dict, by_default: bool):
        self.seconds, self.values, self.said = {}, [], tempfile.TemporaryFile("w+")
        environment = {k: v for k, v in os.environ.items() if k not in UNSET}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        first = (
            "import torch; " if by_default else ""
        )  # where torch is loaded first, the package sets nothing
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{first}from benchmarks import busy; busy.serve()", json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, cwd=ROOT, env=environment,
        )  # fmt: skip

    def step(self, name: str) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                made = json.loads(line)
                self.seconds.setdefault(name, []).append(made["seconds"])
                self.values.append(made["value"])
                return
        self.said.seek(0)
        raise RuntimeError(f"a side ended with exit code {self.process.wait()}: {self.said.read()[-2000:]}")

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Make a pass for every line of the standard input; print its seconds and a number to compare."""
    task = json.loads(sys.argv[1])
    make = encoding(task) if "texts" in task else training(task)
    for _ in sys.stdin:
        start = time.perf_counter()
        value = make()
        print(json.dumps({"seconds": time.perf_counter() - start, "value": value}), flush=True)


def encoding(task: dict):
    from synthembed.corpus import example_files
    from synthembed.model import backbone
    from synthembed.model.encoder import Encoder
    from synthembed.profile.settings import Backbone

    loaded = backbone.load(Backbone(model=f"{task['folder']}/base-{task['size']['layers']}"))
    encoder = Encoder(loaded, batch_tokens=1_024)
    texts = [t for e in example_files.read(Path(task["folder"]) / "triplets.jsonl") for t in e.documents()]
    return lambda: float(abs(encoder.encode(texts[: task["texts"]])).sum())


def training(task: dict):
    from synthembed.corpus import example_files

    corpus = example_files.read(Path(task["folder"]) / "triplets.jsonl")
    step = train.ours(task, train.Size(**task["size"]), corpus)
    return lambda: step()[0]
