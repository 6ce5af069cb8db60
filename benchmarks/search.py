"""The search behind the laptop profile's training settings: ``python -m benchmarks.search RUN``.

One change at a time from a common start, each a training on RUN's examples and an evaluation on the
English tasks of the embedded suite. A finished trial stays in results/bench/search.json and is not run again. Real
benchmarks have no part in it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from synthembed import profile
from synthembed.corpus import example_files
from synthembed.evaluation import mteb_runs, scores, systems
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, read_json, write_json
from synthembed.model import adapter, backbone
from synthembed.report import rendering
from synthembed.training import batches, train

START = {"backbone.layers": 6, "train.max_length": 64, "train.batch_size": 32, "train.learning_rate": 3e-3}
CHANGES = [
    {},
    {"seed": 43},
    {"train.learning_rate": 1e-3},
    {"backbone.layers": 10},
    {"train.max_length": 96},
    {"train.epochs": 2},
    {"train.batch_size": 64, "train.epochs": 2},
    {"train.batch_size": 16},
    {"train.learning_rate": 6e-3},
    {"backbone.layers": 8},
    {"seed": 44},
    {"train.temperature": 0.03},
    {"lora.rank": 32},
    {"backbone.layers": 10, "train.max_length": 96},
]
LEFT_OUT = {"EmbeddedMultilingual", "EmbeddedBitext"}  # no part of Avg
FILE = ROOT / "results" / "bench" / "search.json"


def trial(changes: dict, corpus: list) -> dict:
    """Train and evaluate under START and ``changes``; averages of the suite, steps, seconds of training."""
    settings = profile.load("laptop").with_overrides(START | changes)
    with tempfile.TemporaryDirectory() as folder:
        base, started = backbone.load(settings.backbone, settings.seed), time.time()
        model = adapter.merge_lora(train.train(settings, base, corpus, Path(folder)))
        seconds = time.time() - started
        subject = systems.subject(settings, model, "synthembed/trial", "1")
        tasks = mteb_runs.tasks_of(settings.evaluate)
        can = lambda task: task.metadata.name not in LEFT_OUT  # noqa: E731
        rows = mteb_runs.run_benchmarks(subject, tasks, Path(folder) / "mteb", "trial", can)["rows"]
    steps = batches.steps_of(settings.train, corpus)
    return {"changes": changes, "steps": steps, "seconds": round(seconds), "averages": scores.averages(rows)}


def table(trials: list[dict]) -> str:
    """Markdown, the best first."""
    rows = [
        {"change": ", ".join(f"{k} {v}" for k, v in t["changes"].items()) or "none",
         "steps": t["steps"], "seconds": t["seconds"]} | {c: t["averages"][c] for c in scores.COLUMNS[::-1]}
        for t in sorted(trials, key=lambda t: -t["averages"]["Avg"])
    ]  # fmt: skip
    return rendering.markdown(pd.DataFrame(rows))


def main(run: str) -> None:
    corpus = example_files.read(run_folders.find(run) / "02_analyze" / "examples.jsonl")
    trials = read_json(FILE, {"start": START, "examples": len(corpus), "trials": []})
    for changes in CHANGES:
        if any(t["changes"] == changes for t in trials["trials"]):
            continue
        print(changes or "start", flush=True)
        trials["trials"].append(trial(changes, corpus))
        FILE.parent.mkdir(parents=True, exist_ok=True)
        write_json(FILE, trials)
    print(table(trials["trials"]))


if __name__ == "__main__":
    main(sys.argv[1])
