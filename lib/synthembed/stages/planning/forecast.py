"""How long a profile's stages will take on this machine, and how much memory and disk, before they run.

A product of matrices is measured for two seconds, and the cost model does the rest: 2N operations a token to
encode, 4N to train an adapter, for N parameters that tokens are multiplied with. How much of the measured rate
is reached is what the committed laptop run reached; its minutes, foretold from the rate alone, must come out
within 30 %.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from synthembed.ground import run_folders
from synthembed.profile.settings import Profile
from synthembed.stages.definitions import stages_of
from synthembed.stages.planning import system_memory, workload
from synthembed.training import gpu_cost

HOURS_WITHOUT_GPU = 48.0  # what takes a CPU longer is meant for a GPU
START = 3.0  # seconds that a stage takes to begin and end
A_MODEL = 7.0  # seconds to load a base, and to merge what was trained
A_SYSTEM = 5.0  # seconds of the suite beside the vectors: classifiers, k-means, BM25
EXPORTING = 25.0  # the trained model, read back and compared
ANALYSIS = 0.024  # seconds an example, filters and figures included
DISK = 5.0  # GB of a run and of the embedded models
MISTRAL_7B, KNOWN_SHAPE = gpu_cost.MISTRAL_7B, "/Mistral-7B-v0.1"  # without asking the hub


@dataclass(frozen=True)
class Shares:
    """Of 4N and 2N at the measured rate; peers run in their own libraries, unpacked."""

    training: float
    encoding: float
    of_a_peer: float


# The lower the rate of products is, the less is lost beside them.
SHARES = {"bfloat16": Shares(0.36, 0.76, 0.34), "float32": Shares(0.55, 0.95, 0.43)}


@dataclass(frozen=True)
class Need:
    """What a stage takes: seconds (None: nobody can say), and why."""

    stage: str
    seconds: float | None
    why: str = ""


def problems(profile: Profile, shape: gpu_cost.Shape, on) -> Iterator[str]:
    """Prints the forecast of a profile for a base of this ``shape``; yields what speaks against the run."""
    rate, kind = rate_here(profile, on)
    print(f"matrix products: {rate / 1e9:,.0f} GFLOP/s in {kind} on {on.type}, measured for two seconds")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 1.2 * (os.cpu_count() or 1):
        print(
            f"other programs are at work here (load {load:.1f}): the rate is lower and the times longer for it"
        )
    found = list(needs(profile, shape, rate, kind))
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


def rate_here(profile: Profile, on) -> tuple[float, str]:
    """Operations a second of a large product on device ``on``, measured, and in which precision."""
    import torch

    from synthembed.model.cpu import bfloat16_linear, rate

    halves = on.type == "cpu" and profile.backbone.dtype == "auto" and bfloat16_linear.is_faster()
    kind = torch.bfloat16 if halves or on.type == "cuda" else torch.float32
    return rate.matrix_rate(on, seconds=2.0, dtype=kind), str(kind).removeprefix("torch.")


def needs(profile: Profile, shape: gpu_cost.Shape, rate: float, kind: str) -> Iterator[Need]:
    """Seconds of every stage of the profile at ``rate`` operations a second, measured in ``kind``, as ``rate_here``
    returns both."""
    stages = stages_of(profile)
    return (need for need in _needs(profile, shape, rate, kind) if need.stage in stages)


def _needs(profile: Profile, shape: gpu_cost.Shape, rate: float, kind: str) -> Iterator[Need]:
    shares = SHARES[kind]
    yield Need("00_overview", START)
    yield _generating(profile)
    yield Need("02_analyze", START + ANALYSIS * profile.generate.examples)
    parts = list(workload.works(profile, shape))
    for stage in ("03_train", "04_evaluate", "05_ablations", "06_long_context"):
        of_stage = [part for part in parts if part.stage == stage]
        unknown = sorted({part.what for part in of_stage if part.tokens is None})
        why = f"not known: {', '.join(unknown)}" if unknown else ""
        found = None if unknown else START + sum(seconds(part, rate, shares) for part in of_stage)
        if found and stage == "03_train":
            found += EXPORTING * len(profile.training_seeds)
        yield Need(stage, found, why or _said(stage, profile))
    yield Need("07_report", START)
    if of_stage := [part for part in parts if part.stage == "08_beyond"]:
        known = not any(part.tokens is None for part in of_stage)
        yield Need("08_beyond", START + sum(seconds(p, rate, shares) for p in of_stage) if known else None)


def seconds(part: workload.Work, rate: float, shares: Shares) -> float:
    """Of one part of a stage, at ``rate``."""
    if part.steps:
        return part.operations / (shares.training * rate)
    if part.stage == "06_long_context":
        return A_MODEL + part.operations / (shares.encoding * rate)
    others = any(part.what.startswith(peer) for peer in workload.PEERS)
    share = shares.of_a_peer if others else shares.encoding
    return A_SYSTEM + (A_MODEL if part.matrices else 0) + part.operations / (share * rate)


def _said(stage: str, profile: Profile) -> str:
    seeds, rows = len(profile.training_seeds), len(profile.ablations.rows)
    if stage == "05_ablations":
        return f"{rows} rows" + (f", {seeds} seeds" if seeds > 1 else "") if rows else ""
    return f"{seeds} seeds" if stage == "03_train" and seeds > 1 else ""


def _generating(profile: Profile) -> Need:
    from synthembed.generation import cost

    backend = profile.generate.backend
    if backend == "recorded":
        return Need("01_generate", 2 * START)
    figures = cost.figures(profile)
    if backend == "batch":
        return Need("01_generate", None, f"{figures['batch_rounds']} round(s) of at most 24 hours")
    return Need("01_generate", figures["live_hours"] * 3600, "by the endpoint's own pace")


def memory_gb(profile: Profile, shape: gpu_cost.Shape, on) -> float:
    """GB of a training step at its peak, by gpu_cost's arithmetic; on a CPU numbers are float32."""
    settings, tokens = profile.train, int(workload.step_tokens(profile))
    chunk = min(settings.chunk_tokens, tokens)
    kept = gpu_cost.memory(
        shape, profile.lora.rank, chunk, max(0, min(settings.graph_tokens, tokens - chunk)),
        settings.gradient_checkpointing is not False, 3 * settings.batch_size, settings.method,
    )  # fmt: skip
    if on.type == "cuda":
        return kept["peak"]
    return 2 * kept["peak"] - kept["trained"] - kept["gradients and optimiser"]  # which are float32 anywhere


def _memory(profile: Profile, shape: gpu_cost.Shape, on) -> Iterator[str]:
    import torch

    wanted = memory_gb(profile, shape, on)
    if on.type == "cuda":
        free, total = (n / 1e9 for n in torch.cuda.mem_get_info(on))
    else:
        free, total = system_memory.free_and_total()
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
    runs = run_folders.own()
    free = shutil.disk_usage(next(p for p in (runs, *runs.parents) if p.exists())).free / 1e9
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
