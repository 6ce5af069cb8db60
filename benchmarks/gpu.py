"""``python -m benchmarks.gpu``: one GPU in under nine minutes: correctness, speed beside peers, levers.

A model of Mistral-7B's exact shape with random weights, as fast as a trained one; no network is needed.
Rows are on disk after each measurement (results/bench/gpu.json), so that a run that is cut short leaves
what it measured. ``--tiny`` runs all of it on a CPU in seconds; ``--project`` prints docs/gpu.md's
arithmetic, and ``--docs`` writes it and the measured table into that page.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here is fetched

import torch
import transformers
from synthembed.ground.files import ROOT, read_json, shown
from synthembed.training import gpu_cost

from benchmarks.gpu_checks import CHECKS
from benchmarks.gpu_levers import LEVERS
from benchmarks.gpu_model import TINY, Bench, Size
from benchmarks.gpu_parts import Run, left_out, table
from benchmarks.gpu_speed import encode, rate, step
from benchmarks.measure import row

MINUTES = 8.5
OUT = ROOT / "results" / "bench" / "gpu.json"
PAGE = ROOT / "docs" / "gpu.md"
WORKS = ("documents", "queries", "mix")
SECONDS = {
    "model": 60,
    "check": 20,
    "rate": 10,
    "encode": 40,
    "train": 180,
    "lever": 15,
    "compile": 45,
}  # of each part


def parts(bench: Bench) -> list[tuple[list[str], float, object]]:
    """(names of its rows, seconds at most, what measures them) of every part, in their order."""
    with_shares = lambda name: [name, f"{name}/mfu", f"{name}/memory"]  # noqa: E731
    checks = [([f"check/{n}" for n in names], "check", check) for check, names in CHECKS.items()]
    works = [(with_shares(f"encode/{name}"), "encode", partial(encode, name=name)) for name in WORKS]
    levers = [
        ([f"lever/{name}"], "compile" if name == "compile" else "lever", lever)
        for name, lever in LEVERS.items()
    ]
    all_parts = [(["model"], "model", model), *checks, (["rate"], "rate", rate), *works,
                 (with_shares("train"), "train", step), *levers]  # fmt: skip
    return [(names, SECONDS[kind], partial(measure, bench)) for names, kind, measure in all_parts]


def model(bench: Bench) -> Iterator[dict]:
    parameters = sum(p.numel() for p in bench.base.model.parameters())
    tokens = len(bench.base.contract.tokenizer)
    told = f"random weights, {bench.dtype}, a tokenizer of {tokens:,} tokens, torch {torch.__version__}"
    yield row("model", parameters / 1e9, None, "", "billion parameters", told)


def run(size: Size | None = None, minutes: float = MINUTES, out: Path = OUT) -> list[dict]:
    """All rows, on disk in ``out`` as well; none without a GPU, unless a ``size`` is given."""
    if size is None and not torch.cuda.is_available():
        print("gpu: there is no GPU here, nothing was measured (--tiny tries the command on a CPU)")
        return []
    transformers.utils.logging.disable_progress_bar()
    bench, going = Bench(size or Size()), Run(out, minutes)
    for names, seconds, measure in parts(bench):
        going.part(names, seconds, measure)
    print(f"\n{table(going.rows)}\n\n{shown(out)}")
    return going.rows


def failed(rows: list[dict]) -> list[str]:
    """Names of what went wrong: a check that did not pass, a part that ended in an error."""
    return [r["name"] for r in rows if r["check"].startswith(("FAILED", "failed"))]


def measured(rows: list[dict]) -> str:
    """Markdown: the table of a run, or of all names with nothing measured."""
    names = [name for names, *_ in parts(Bench(TINY)) for name in names]
    reason = "not measured: `make bench-gpu` on a machine with a GPU fills this"
    return table(rows or [left_out(f"gpu/{name}", reason) for name in names])


def page(text: str, rows: list[dict]) -> str:
    """docs/gpu.md with its tables made anew, each between its marks."""
    for name, made in {**gpu_cost.tables(), "measured": measured(rows)}.items():
        marks = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{marks[0]}.*?{marks[1]}", re.S)
        text = pattern.sub(lambda _, m=marks, t=made: f"{m[0]}\n{t}\n{m[1]}", text)
    return text


def write_page() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), read_json(OUT, [])), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="budget of the whole run")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, also without a GPU")
    parser.add_argument("--out", type=Path, help="the JSON file; results/bench/gpu.json by default")
    parser.add_argument("--project", action="store_true", help="print memory and hours by arithmetic")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/gpu.md")
    asked = parser.parse_args()
    if asked.project or asked.docs:
        print("\n\n".join(gpu_cost.tables().values()))
        if asked.docs:
            write_page()
        return
    out = asked.out or (Path(tempfile.gettempdir()) / "gpu-tiny.json" if asked.tiny else OUT)
    wrong = failed(run(TINY if asked.tiny else None, asked.minutes, out))
    if wrong:
        sys.exit(f"went wrong: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
