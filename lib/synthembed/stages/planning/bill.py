"""The bill of a profile before it runs: tokens, operations, GPU-hours, time, money, memory, disk and network.

``workload`` counts the work; here it meets GPUs of a data sheet, or this machine's measured rate. What is
assumed is said in the lines themselves. The paper's own hours by the same arithmetic are in docs/gpu.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synthembed.generation import cost
from synthembed.ground.files import ROOT, read_json, read_yaml
from synthembed.profile.cluster import Cluster
from synthembed.profile.settings import Profile
from synthembed.stages.planning import forecast, workload
from synthembed.training import gpu_cost

PACKAGE_DATA = ("gpu_prices.yaml",)
HEAD = ("stage", "part", "tokens", "made", "operations", "GPU-hours", "wall time", "USD")
ROWS = "05_ablations"
VECTOR = 2  # bytes of a number of a stored vector


class BillError(ValueError):
    """A GPU that is not known, or no number of them."""


@dataclass(frozen=True)
class Machines:
    """``count`` GPUs of a kind at ``usd`` an hour each, products at the shares ``training`` and ``encoding`` of
    the data sheet's rate; ``said`` is where the shares come from."""

    name: str
    gpu: gpu_cost.Gpu
    count: int
    usd: float
    training: float
    encoding: float
    said: str

    def hours(self, part: workload.Work) -> float | None:
        """GPU-hours of a part."""
        share = self.training if part.steps else self.encoding
        return None if part.tokens is None else part.operations / (self.gpu.operations * share) / 3600


@cache
def prices() -> dict:
    return read_yaml(Path(__file__).parent / "gpu_prices.yaml")


def machines(name: str, count: int, usd: float | None = None) -> Machines:
    """The GPUs asked for; measured shares (results/bench/gpu.json) go before the assumed one. Raises BillError."""
    found = {n.lower(): n for n in gpu_cost.GPUS}.get(name.lower())
    if not found or count < 1:
        known = ", ".join(n.lower() for n in gpu_cost.GPUS)
        raise BillError(f"--gpu {name} --gpus {count}: known GPUs are {known}, and one at least")
    if usd is not None and not 0 <= usd < float("inf"):
        raise BillError(f"--usd-per-hour {usd:g}: a price from 0 on")
    rows = {row["name"]: row.get("ours") for row in read_json(ROOT / "results/bench/gpu.json", [])}
    training, encoding = rows.get("gpu/train/mfu"), rows.get("gpu/encode/documents/mfu")
    measured = bool(training and encoding)
    said = (
        "shares of the data sheet's rate as measured (results/bench/gpu.json)"
        if measured
        else f"{gpu_cost.UTILISATION:.0%} of the data sheet's rate, assumed: `make bench-gpu` measures it"
    )
    shares = (training, encoding) if measured else (gpu_cost.UTILISATION, gpu_cost.UTILISATION)
    price = prices()["gpus"][found] if usd is None else usd
    return Machines(found, gpu_cost.GPUS[found], count, price, *shares, said)


def rows(profile: Profile, shape: gpu_cost.Shape, on: Machines) -> list[dict]:
    """A row for each part of each stage that runs a model."""
    found = []
    for part in workload.works(profile, shape, on.count):
        hours = on.hours(part)
        found.append({
            "stage": part.stage, "part": part.what, "tokens": part.tokens, "made": part.made,
            "operations": part.operations, "gpu_hours": hours,
            "hours": None if hours is None else hours / on.count,
            "usd": None if hours is None else hours * on.usd,
        })  # fmt: skip
    return found


def by_stage(found: list[dict]) -> list[dict]:
    """One row a stage; a part that nobody can count leaves the stage's sums open."""
    sums = []
    for stage in dict.fromkeys(row["stage"] for row in found):
        parts = [row for row in found if row["stage"] == stage]
        total = {"stage": stage, "part": f"{len(parts)} part{'s' if len(parts) > 1 else ''}", "made": None}
        for name in ("tokens", "operations", "gpu_hours", "hours", "usd"):
            values = [part[name] for part in parts]
            total[name] = None if None in values else sum(values)
        sums.append(total)
    return sums


def rows_are_tasks(profile: Profile) -> bool:
    """Whether a cluster places rows of the ablations whole, by the profile's ``grid`` or the default one."""
    return "ablations" in (profile.cluster or Cluster()).grid


def as_placed(profile: Profile, shape: gpu_cost.Shape, on: Machines, tasks: bool = True) -> float | None:
    """Hours of a run that a cluster of these GPUs places; None: nobody can say.

    Trainings and evaluations have all GPUs, but for stage 06 and for rows of 08 that are read in other ways or
    scored while they train, which have one. With ``tasks`` a row and seed of the ablations has one, beside others:
    the longest is waited for.
    """
    parts = [part for part in workload.works(profile, shape, on.count) if not tasks or part.stage != ROWS]
    if tasks:  # a row's batches are not shared then: fewer graphs may stay
        parts += [part for part in workload.works(profile, shape) if part.stage == ROWS]
    alone = {
        f"{question.id}/{row.id}"
        for question in profile.experiments.questions
        for row in question.rows
        if row.readings or row.scored_at
    }
    hours, of_row = 0.0, Counter()
    for part in parts:
        if (of_part := on.hours(part)) is None:
            return None
        name = part.what.partition(", ")[0]
        if tasks and part.stage == ROWS:
            of_row[name] += of_part
        else:
            one = part.stage == "06_long_context" or (part.stage == "08_beyond" and name in alone)
            hours += of_part / (1 if one and not part.steps else on.count)
    seeds = {
        row.id: len(profile.with_overrides(profile.ablations.set | row.set).training_seeds)
        for row in profile.ablations.rows
    }
    longest = max((spent / seeds[name] for name, spent in of_row.items()), default=0.0)
    return hours + max(of_row.total() / on.count, longest)


def network(profile: Profile, shape: gpu_cost.Shape, on: Machines) -> dict[str, float]:
    """Bytes that a GPU sends or a machine fetches, by purpose."""
    parts = [part for part in workload.works(profile, shape, on.count) if part.steps]
    others = (on.count - 1) / on.count
    trained = shape.trained(profile.train.method, profile.lora.rank)
    gradients = 2 * others * gpu_cost.FLOAT32 * trained  # a ring's all-reduce
    vectors = (
        2 * others * 3 * profile.train.batch_size * shape.hidden * gpu_cost.FLOAT32
    )  # and their gradients
    count = sum(part.steps for part in parts)
    return {
        "weights, fetched once a machine": gpu_cost.BFLOAT16 * shape.parameters,
        "gradients, each GPU": count * gradients if on.count > 1 else 0.0,
        "vectors, each GPU": count * vectors if on.count > 1 else 0.0,
        "benchmarks' texts, fetched once": _texts(profile),
    }


def _texts(profile: Profile) -> float:
    names = [n for n in profile.evaluate.benchmarks if n != "embedded"]
    tokens = [
        workload.benchmark_tokens(n, tuple(profile.evaluate.tasks or ()), 10**9)[1] or 0.0 for n in names
    ]
    return sum(tokens) * 4.0  # UTF-8 bytes of a token, whatever its script


def disk(profile: Profile, shape: gpu_cost.Shape) -> dict[str, float]:
    """Bytes on disk by purpose, at the most."""
    seeds = len(profile.training_seeds)
    texts = [
        workload.benchmark_tokens(n, tuple(profile.evaluate.tasks or ()), profile.evaluate.max_length)[0]
        for n in profile.evaluate.benchmarks
    ]
    return {
        "the base, and each trained model": gpu_cost.BFLOAT16 * shape.parameters * (1 + seeds),
        "benchmarks' texts": _texts(profile),
        "vectors of a benchmark": max(texts, default=0.0) * shape.hidden * VECTOR,
    }


def memory(profile: Profile, shape: gpu_cost.Shape, on: Machines) -> Iterator[str]:
    """The peak of a training step on each GPU, and what kept graphs would save there."""
    settings = profile.train
    share = workload.step_tokens(profile) / on.count
    chunk = min(settings.chunk_tokens, share)
    arguments = {
        "rank": profile.lora.rank, "chunk_tokens": int(chunk), "checkpointing": settings.gradient_checkpointing is True,
        "texts": 3 * settings.batch_size, "method": settings.method,
        "shards": on.count if settings.sharded else 1,
    }  # fmt: skip
    kept = max(0, min(settings.graph_tokens, int(share - chunk)))
    peak = gpu_cost.memory(shape, graph_tokens=kept, **arguments)["peak"]
    held = on.gpu.memory / gpu_cost.GB
    fits = _fits(profile, shape, arguments, peak, held)
    yield f"memory: a training step takes about {peak:.0f} GB of a GPU's {held:.0f} ({fits})"
    room = gpu_cost.graph_tokens_in(held, shape, **arguments)
    if peak <= 0.95 * held and kept < share - chunk <= room:
        yield (
            f"  all graphs of a GPU's share of a batch fit as well: train.graph_tokens={int(share)} makes 2N "
            "fewer operations a token of training"
        )


def _fits(profile: Profile, shape: gpu_cost.Shape, arguments: dict, peak: float, held: float) -> str:
    """Whether a step fits, as training.memory_budget has it: budgets that do not are halved by the training itself,
    but for workers that share the weights."""
    if peak <= 0.95 * held:
        return "fits"
    settings = profile.train
    least = arguments | {
        "chunk_tokens": min(arguments["chunk_tokens"], max(settings.max_length, settings.document_length)),
        "checkpointing": settings.gradient_checkpointing is not False,
    }  # fmt: skip
    least = gpu_cost.memory(shape, graph_tokens=0, **least)["peak"]
    if least > 0.95 * held:
        remedy = (
            "more GPUs" if settings.sharded else "train.sharded=true over more GPUs, or train.method=qlora"
        )
        return f"does not fit, and {least:.0f} GB are the least: {remedy}"
    if settings.try_longest_first and arguments["shards"] == 1:
        return "does not fit: the training halves train.chunk_tokens until it does"
    return "does not fit: halve train.chunk_tokens"


def text(profile: Profile, shape: gpu_cost.Shape, on: Machines, parts: bool = False) -> str:
    """The bill in words and a table; ``parts`` shows every part of a stage."""
    found = rows(profile, shape, on)
    shown = found if parts else by_stage(found)
    if not parts:
        alone = [row for row in shown if row["part"] == "1 part"]
        for row in alone:
            row |= {"part": next(r["part"] for r in found if r["stage"] == row["stage"])}
            row["made"] = next(r["made"] for r in found if r["stage"] == row["stage"])
    total = by_stage([row | {"stage": "all"} for row in found])[0] | {"part": ""}
    lines = [f"on {on.count} {on.name}: {on.said}"]
    lines += _aligned([HEAD, *(_cells(row) for row in [*shown, total])])
    lines.append(
        f"(prices of {prices()['date']}, {on.usd:g} USD an hour and GPU; --usd-per-hour takes yours)"
    )
    lines += _placed(profile, shape, on) if on.count > 1 else []
    lines += memory(profile, shape, on)
    for name, sizes in (("disk", disk(profile, shape)), ("network", network(profile, shape, on))):
        said = "; ".join(f"{what} {_size(size)}" for what, size in sizes.items() if size)
        lines.append(f"{name}: {said}")
    return "\n".join(lines)


def _placed(profile: Profile, shape: gpu_cost.Shape, on: Machines) -> Iterator[str]:
    """How long a cluster takes, and how long it would with rows over all GPUs, where that is less."""
    tasks, least = rows_are_tasks(profile), None
    for way in (True, False) if tasks else (False,):
        hours = as_placed(profile, shape, on, way)
        if hours is None or (least is not None and hours >= least):
            return
        least = hours
        said = "as a cluster places it (a row of 05 has one GPU)" if way else "as a cluster places it"
        if tasks and not way:
            said = "  with cluster.grid=[] (a row of 05 has all GPUs, one row after the other)"
        yield (
            f"{said}: {forecast.duration(hours * 3600)}; {on.count} GPUs held so long are "
            f"{hours * on.count * on.usd:,.2f} USD"
        )


def here(profile: Profile, shape: gpu_cost.Shape, rate: float, kind: str) -> str:
    """The same for this machine, at its measured ``rate`` in ``kind``."""
    lines = [f"here, at {rate / 1e9:,.0f} GFLOP/s in {kind}, measured for two seconds:"]
    parts = list(workload.works(profile, shape))
    table = [("stage", "tokens", "operations", "time")]
    for need in forecast.needs(profile, shape, rate, kind):
        of_stage = [part for part in parts if part.stage == need.stage]
        known = of_stage and all(part.tokens is not None for part in of_stage)
        tokens = _many(sum(part.tokens for part in of_stage)) if known else ""
        operations = f"{sum(part.operations for part in of_stage):.1e}" if known else ""
        table.append((need.stage, tokens, operations, forecast.duration(need.seconds)))
    return "\n".join(lines + _aligned(table))


def as_json(profile: Profile, shape: gpu_cost.Shape, on: Machines) -> str:
    """Every number of the bill, for other programs."""
    found = rows(profile, shape, on)
    return json.dumps({
        "profile": profile.name, "generation": cost.figures(profile),
        "gpu": on.name, "gpus": on.count, "usd_per_hour": on.usd, "shares": on.said,
        "parts": found, "stages": by_stage(found),
        "cluster_hours": as_placed(profile, shape, on, rows_are_tasks(profile)),
        "disk_bytes": disk(profile, shape), "network_bytes": network(profile, shape, on),
    }, indent=1)  # fmt: skip


def _cells(row: dict) -> tuple[str, ...]:
    hours = row["gpu_hours"]
    return (
        row["stage"], row["part"], _many(row["tokens"]), f"{row['made']}N" if row["made"] else "",
        "?" if row["operations"] is None else f"{row['operations']:.1e}",
        "?" if hours is None else f"{hours:,.1f}" if hours >= 0.1 else f"{hours:.4f}",
        forecast.duration(None if row["hours"] is None else row["hours"] * 3600),
        "?" if row["usd"] is None else f"{row['usd']:,.2f}",
    )  # fmt: skip


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    words = 2 if len(widths) > 4 else 1
    return [
        "  " + "  ".join(c.ljust(w) if n < words else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in table
    ]  # fmt: skip


def _many(tokens: float | None) -> str:
    if tokens is None:
        return "?"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:,.1f}{unit}"
    return f"{tokens:.0f}"


def _size(bytes_: float) -> str:
    return f"{bytes_ / 1e9:,.1f} GB" if bytes_ >= 1e8 else f"{bytes_ / 1e6:,.1f} MB"
