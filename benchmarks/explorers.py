"""Explorers of the notebooks, from a control that is moved to the HTML that is drawn of it: ``make bench-explorers``.

Each is made as its notebook makes it, of the texts of a profile. Models are loaded before. What the browser adds, a
message and drawing, is not measured here (tests/browser clicks there).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from synthembed import profile, widgets
from synthembed.corpus import analysis, example_files
from synthembed.corpus.example import Drops
from synthembed.evaluation import passkey
from synthembed.generation import parsing, two_steps
from synthembed.generation.items import render, schema_of
from synthembed.ground.files import read_lines
from synthembed.model import backbone, instructions
from synthembed.report.seen import before_after
from synthembed.widgets.explorer import Explorer
from synthembed.widgets.passkey_viewer import passkeys
from synthembed.widgets.similarities import neighbours, playground

from benchmarks.measure import of_now

BOUND = 300.0  # ms within which an answer seems to come at once
Made = tuple[Callable[[], Explorer], int, list]  # how it is made, a control's number, its values in turn


def run(name: str = "laptop", rounds: int = 40) -> list[dict]:
    """Rows with the median of ``rounds`` answers in ms, beside the bound; the slowest of twenty and the time to make
    the explorer, with its first picture, stand in the check."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for explorer, made in _explorers(profile.load(name), Path(folder)):
            rows.append(_measured(explorer, *made, rounds))
    return rows


def _measured(name: str, make: Callable[[], Explorer], number: int, values: list, rounds: int) -> dict:
    made, began = [], []
    for _ in range(3):
        start = time.perf_counter()
        made.append(make())
        began.append(1000 * (time.perf_counter() - start))
    explorer, answers, shown = made[-1], [], set()
    control = explorer.controls[number]
    control.value = values[-1]
    for value in itertools.islice(itertools.cycle(values), rounds):
        start = time.perf_counter()
        control.value = value
        answers.append(1000 * (time.perf_counter() - start))
        shown.add(explorer.shown.value)
    if len(shown) != min(len(values), rounds) or any("Error</b>" in page for page in shown):
        raise AssertionError(
            f"{name}: each value of {control.description!r} must give its own picture: {shown}"
        )
    median, late = statistics.median(answers), sorted(answers)[int(0.95 * (len(answers) - 1))]
    check = (
        f"p95 {late:.1f} ms; made, with its first picture, in {statistics.median(began):.1f} ms; "
        f"each value its own picture; load {os.getloadavg()[0]:.1f}"
    )
    return {
        "name": f"explorers/{name}", "ours": median, "peer": BOUND, "peer_name": "the bound", "ratio": BOUND / median,
        "unit": f"ms, median of {rounds} answers", "check": check, **of_now(),
    }  # fmt: skip


def _explorers(plan, folder: Path) -> Iterator[tuple[str, Made]]:
    with contextlib.redirect_stdout(io.StringIO()):
        two_steps.generate(plan, folder)
    items = two_steps.read_items(folder)
    yield "prompts", _prompts(folder, items)
    examples = list(example_files.from_replies(folder / "replies.jsonl", items, Drops()))
    yield "browse", (partial(widgets.browse, analysis.frame(examples)), 3, ["a", "the"])
    base = backbone.load(plan.backbone, plan.seed)
    named = base.contract.tokenizer.convert_ids_to_tokens
    tokens_of = lambda text: named(base.contract.ids([text], 128)[0])  # noqa: E731
    written = ["Why do people like rainy days?", "Why is ice slippery? " * 10]
    yield "tokens", (partial(widgets.tokens, tokens_of, written[0]), 0, written)
    encode = before_after.encoder_of(plan, base)
    few = examples[:32]
    queries, texts = [instructions.query_text(e, "natural") for e in few], [e.positive for e in few]
    cosines = torch.tensor(encode(queries, "")) @ torch.tensor(encode(texts, "")).T
    yield "batch", (partial(widgets.batch, cosines.numpy(), queries, texts, 0.05, 32, 0), 0, [0.02, 0.1])
    corpus, topics = before_after.suite_texts()
    nearest = before_after.nearest((vectors := encode(corpus, "")) @ vectors.T)
    near = {system: nearest for system in ("base", "static", "trained", "minilm")}
    yield "neighbours", (partial(neighbours, corpus, topics, near), 0, [1, 2])
    sets = passkey.sets_of(plan.long_context, base, plan.seed)
    count = lambda text: len(base.contract.tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    lengths = plan.long_context.lengths
    viewer = partial(passkeys, sets, count, base.config.num_hidden_layers, lengths[-1])
    yield "passkeys", (viewer, 2, [lengths[0], lengths[-1] - 1])
    make = _playground(plan, encode)
    asked = [f"{before_after.QUERY} {n}" for n in range(200)]
    yield "playground, a query", (make, 0, asked)
    *first, last = before_after.DOCUMENTS
    yield "playground, a document", (make, 1, ["\n".join([*first, f"{n} {last}"]) for n in range(200)])


def _prompts(folder: Path, items: dict) -> Made:
    came = {line["custom_id"]: line for line in read_lines(folder / "replies.jsonl")}
    by_id = {i: item for i, item in items.items() if item.step == "example" and i in came}
    names = {id(item): i for i, item in by_id.items()}
    faults = lambda text, item: parsing.faults(text, schema_of(item))  # noqa: E731
    reply_of = lambda item: parsing.content_of(came[names[id(item)]])  # noqa: E731
    return partial(widgets.prompts, by_id.values(), render, reply_of, faults), 0, ["long-short", "short-long"]


def _playground(plan, encode: before_after.Encode) -> Callable[[], Explorer]:
    """Notebook 04's three models: the base, a second copy of it, of the trained one's size, and a peer. All texts are
    encoded when it is made; then what is written anew."""
    second = before_after.encoder_of(plan, backbone.load(plan.backbone, plan.seed))
    loaded = {"base": encode, "as the trained": second, "minilm": before_after.peer_encoder("minilm")}
    models = {name: partial(lambda one: one, one) for name, one in loaded.items()}
    return partial(playground, models, before_after.QUERY, before_after.DOCUMENTS, before_after.ANSWERS)
