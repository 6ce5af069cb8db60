"""How long a profile's stages will take on this machine, and how much memory and disk, before they run.

A product of matrices is measured for two seconds, and the cost model does the rest: 2N operations a token to
encode, 4N to train an adapter, for N parameters that tokens are multiplied with. How much of the measured rate
is reached is what the committed laptop run reached. Meant to tell minutes from hours, within a factor of two.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

from synthembed.ground.files import PACKAGE, ROOT
from synthembed.profile.settings import Profile
from synthembed.training import gpu_cost

TRAINING, ENCODING = 0.35, 0.6  # of 4N and 2N at the measured rate: results/laptop/03_train/log.jsonl
HOURS_WITHOUT_GPU = 48.0  # what takes a CPU longer is meant for a GPU
START = 3.0  # seconds that a stage takes to begin and end
A_LOAD = 6.0  # seconds to load a base, mteb's tasks and to write results
A_PEER = 40.0  # seconds that bm25, MiniLM and the like take on the embedded suite
ANALYSIS = 0.015  # seconds an example, filters and figures included
LABELLED = {"synthetic+msmarco": 490_000, "msmarco": 490_000, "labelled": 1_300_000, "full": 1_300_000}
SMALL = 5e5  # texts of benchmarks that are small beside MTEB and MIRACL
DISK = 5.0  # GB of a run and of the embedded models
OWN = ("base", "trained")
MISTRAL_7B, KNOWN_SHAPE = gpu_cost.MISTRAL_7B, "/Mistral-7B-v0.1"  # without asking the hub


@dataclass(frozen=True)
class Need:
    """What a stage takes: seconds (None: nobody can say), and why."""

    stage: str
    seconds: float | None
    why: str = ""


def problems(profile: Profile, shape: gpu_cost.Shape, on) -> Iterator[str]:
    """Prints the forecast of a profile for a base of this ``shape``; yields what speaks against the run."""
    rate, kind = _rate(profile, on)
    print(f"matrix products: {rate / 1e9:,.0f} GFLOP/s in {kind} on {on.type}, measured for two seconds")
    found = list(needs(profile, shape, rate))
    print("about, if nothing else runs:")
    for need in found:
        print(f"  {need.stage:16} {duration(need.seconds):>10}  {need.why}".rstrip())
    known = sum(need.seconds or 0 for need in found)
    some = " and what is not known" if any(need.seconds is None for need in found) else ""
    print(f"  {'all':16} {duration(known):>10}{some}")
    longest = max(found, key=lambda need: need.seconds or 0)
    if on.type == "cpu" and known > HOURS_WITHOUT_GPU * 3600:
        yield (
            f"no GPU: {longest.stage} alone would take about {duration(longest.seconds)} on this CPU "
            "(docs/gpu.md has hours and memory of GPUs; --profile laptop is made for a CPU)"
        )
    yield from _memory(profile, shape, on)
    yield from _disk(profile, shape)


def shape_of(config, layers: int | None) -> gpu_cost.Shape:
    """The base's shape; of an encoder without a gate the nearest one."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    return gpu_cost.Shape(
        text.hidden_size, text.intermediate_size, layers or text.num_hidden_layers, heads,
        getattr(text, "num_key_value_heads", None) or heads,
        getattr(text, "head_dim", None) or text.hidden_size // heads, text.vocab_size,
    )  # fmt: skip


def _rate(profile: Profile, on) -> tuple[float, str]:
    import torch

    from synthembed.model.cpu import bfloat16_linear, rate

    halves = on.type == "cpu" and profile.backbone.dtype == "auto" and bfloat16_linear.is_faster()
    kind = torch.bfloat16 if halves or on.type == "cuda" else torch.float32
    return rate.matrix_rate(on, seconds=2.0, dtype=kind), str(kind).removeprefix("torch.")


def needs(profile: Profile, shape: gpu_cost.Shape, rate: float) -> Iterator[Need]:
    """Every stage's seconds at ``rate`` operations a second."""
    figures, per_example = _generated(profile)
    yield Need("00_overview", START)
    yield _generating(profile, figures)
    yield Need("02_analyze", START + ANALYSIS * profile.generate.examples)
    seeds = len(profile.training_seeds)
    training = _training(profile, shape, rate, per_example)
    yield Need("03_train", START + seeds * training, f"{seeds} seeds" if seeds > 1 else "")
    evaluation = _evaluation(profile, shape, rate)
    own = sum(1 if s == "base" else seeds for s in profile.evaluate.systems if s in OWN)
    others = A_PEER * (len(profile.evaluate.systems) - len(set(OWN) & set(profile.evaluate.systems)))
    part = "a part of a benchmark: not known" if evaluation is None else ""
    yield Need("04_evaluate", None if evaluation is None else START + own * evaluation + others, part)
    yield _ablations(profile, shape, rate, per_example)
    yield Need("06_long_context", START + _passkeys(profile, shape, rate))
    yield Need("07_report", START)
    if profile.experiments.questions:
        yield _experiments(profile, shape, rate, per_example)


def _generated(profile: Profile) -> tuple[dict, float]:
    """The cost model's figures of generation, and the tokens of an example by them."""
    from synthembed.generation import cost

    figures = cost.figures(profile)
    tokens = sum(model["completion_tokens"] for model in figures["models"].values())
    return figures, tokens / profile.generate.examples


def _generating(profile: Profile, figures: dict) -> Need:
    backend = profile.generate.backend
    if backend == "recorded":
        return Need("01_generate", 2 * START)
    if backend == "batch":
        return Need("01_generate", None, f"{figures['batch_rounds']} round(s) of at most 24 hours")
    return Need("01_generate", figures["live_hours"] * 3600, "by the endpoint's own pace")


def step_tokens(profile: Profile, per_example: float) -> float:
    """Tokens of a training step; a labelled example has as many as docs/gpu.md assumes."""
    labelled = 3 * gpu_cost.RUNS["training"].tokens
    setting, ours = profile.data.setting, profile.generate.examples
    theirs = LABELLED.get(setting, 0) if profile.data.labelled == "public" else 0
    mean = per_example if not theirs else (per_example * ours + labelled * theirs) / (ours + theirs)
    third = mean / 3  # a query, and each of two documents
    cut = min(third, profile.train.max_length) + 2 * min(third, profile.train.document_length)
    return profile.train.batch_size * cut


def _steps(profile: Profile) -> float:
    if profile.train.max_steps:
        return profile.train.max_steps
    ours = 0 if profile.data.setting in ("msmarco", "labelled") else profile.generate.examples
    theirs = LABELLED.get(profile.data.setting, 0) if profile.data.labelled == "public" else 1_000
    count = ours + (theirs if profile.data.setting != "synthetic" else 0)
    return max(1.0, profile.train.epochs * count / profile.train.batch_size)


def _training(profile: Profile, shape: gpu_cost.Shape, rate: float, per_example: float) -> float:
    settings, tokens = profile.train, step_tokens(profile, per_example)
    again = 0.0 if settings.graph_tokens >= tokens else 2.0  # gradient caching's first pass
    again += 2.0 if settings.gradient_checkpointing is True else 0.0
    useful = 6 if settings.method == "full" else 4
    operations = _steps(profile) * tokens * shape.matrices * (useful + again)
    return operations / (TRAINING * rate)


def _evaluation(profile: Profile, shape: gpu_cost.Shape, rate: float) -> float | None:
    """Seconds for one system of ours; None for a part of a benchmark, which this does not know."""
    from synthembed.evaluation.suites.names import TASKS

    tokens = 0.0
    for name in profile.evaluate.benchmarks:
        if name == "embedded":
            suite = sum(p.stat().st_size for p in (PACKAGE / "evaluation/suites/data").rglob("*.jsonl")) / 4
            share = len(profile.evaluate.tasks or TASKS) / len(TASKS)
            tokens += suite * min(1.0, share)
        elif profile.evaluate.tasks:
            return None
        else:
            run = gpu_cost.RUNS.get({"MIRACL": "MIRACL dev"}.get(name, name))
            tokens += run.texts * run.tokens if run else SMALL * 100
    return 2 * shape.matrices * tokens / (ENCODING * rate)


def _ablations(profile: Profile, shape: gpu_cost.Shape, rate: float, per_example: float) -> Need:
    seconds, rows = START, profile.ablations.rows
    for row in rows:
        of_row = profile.with_overrides(profile.ablations.set | row.set)
        evaluation = _evaluation(of_row, shape, rate)
        if evaluation is None:
            return Need("05_ablations", None, "a part of a benchmark: not known")
        seconds += len(of_row.training_seeds) * (_training(of_row, shape, rate, per_example) + evaluation)
    return Need("05_ablations", seconds, f"{len(rows)} rows" if rows else "")


def _experiments(profile: Profile, shape: gpu_cost.Shape, rate: float, per_example: float) -> Need:
    """Rows of equal settings share their trainings; of readings, the forward passes are counted that they add."""
    seconds, seen = START, set()
    for experiment in profile.experiments.questions:
        for row in experiment.rows:
            settings = profile.of_row(experiment, row)
            evaluation = _evaluation(settings, shape, rate)
            if evaluation is None:
                return Need("08_beyond", None, "a part of a benchmark: not known")
            if (key := f"{settings.hash()} {row.corpus} {row.soup}") in seen:
                continue
            seen.add(key)
            again = {r.instruction for r in row.readings} - {"own"}
            scored = evaluation * (1 + len(again)) + 0.3 * evaluation * len(row.scored_at)
            training = _training(settings, shape_of_row(settings, shape), rate, per_example)
            seconds += len(settings.training_seeds) * (training + scored + A_LOAD)
    return Need("08_beyond", seconds, f"{len(seen)} rows")


def shape_of_row(settings: Profile, shape: gpu_cost.Shape) -> gpu_cost.Shape:
    """The base's shape with a row's own number of layers."""
    return replace(shape, layers=settings.backbone.layers or shape.layers)


def _passkeys(profile: Profile, shape: gpu_cost.Shape, rate: float) -> float:
    settings = profile.long_context
    sets = settings.queries if settings.candidates_per == "query" else 1
    tokens = sum(settings.lengths) * settings.candidates * sets * max(1, len(settings.variants))
    return 2 * shape.matrices * tokens / (ENCODING * rate)


def memory_gb(profile: Profile, shape: gpu_cost.Shape, on) -> float:
    """GB of a training step at its peak, by gpu_cost's arithmetic; on a CPU numbers are float32."""
    settings, tokens = profile.train, int(step_tokens(profile, _generated(profile)[1]))
    chunk = min(settings.chunk_tokens, tokens)
    kept = gpu_cost.memory(
        shape, profile.lora.rank, chunk, max(0, min(settings.graph_tokens, tokens - chunk)),
        settings.gradient_checkpointing is not False, 3 * settings.batch_size,
    )  # fmt: skip
    return kept["peak"] * (1 if on.type == "cuda" else 2)


def _memory(profile: Profile, shape: gpu_cost.Shape, on) -> Iterator[str]:
    import psutil
    import torch

    wanted = memory_gb(profile, shape, on)
    if on.type == "cuda":
        free, total = (n / 1e9 for n in torch.cuda.mem_get_info(on))
    else:
        free, total = psutil.virtual_memory().available / 1e9, psutil.virtual_memory().total / 1e9
    where = "of the GPU" if on.type == "cuda" else "here"
    print(f"memory: training takes about {wanted:.0f} GB; {free:.1f} of {total:.1f} GB {where} are free")
    if wanted > free:
        yield (
            f"training takes about {wanted:.0f} GB of memory, and {free:.1f} GB are free {where}: halve "
            "train.chunk_tokens, lower train.graph_tokens, or choose a smaller base or profile"
        )


def _disk(profile: Profile, shape: gpu_cost.Shape) -> Iterator[str]:
    weights = 2 * shape.parameters * gpu_cost.BFLOAT16 / 1e9  # fetched, and exported once for each seed
    wanted = DISK + weights * (1 + len(profile.training_seeds)) / 2
    free = shutil.disk_usage(ROOT).free / 1e9
    print(f"disk: a run takes about {wanted:.0f} GB; {free:.1f} GB are free")
    if free < wanted:
        yield f"{free:.1f} GB of disk are free; a run takes about {wanted:.0f}"


def duration(seconds: float | None) -> str:
    """In words, as exact as a forecast is."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.0f} h" if seconds < 3600 * 96 else f"{seconds / 86400:,.0f} days"
