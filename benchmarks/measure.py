"""Two sides timed in turn, and rows of results/bench/*.json."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from synthembed.stages.fingerprints import commit, machine


def in_turn(sides: dict[str, Callable[[], object]], runs: int = 5) -> dict[str, float]:
    """Median seconds of each side over ``runs`` rounds, in which every side runs once."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def alone(function: Callable, *arguments):
    """The result of ``function`` in a process of its own, and that process's peak memory in GB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_memory, (function, *arguments))


def _with_memory(function: Callable, *arguments):
    result = function(*arguments)
    return result, _peak_gb()


def _peak_gb() -> float:
    """This process's own peak. On Linux ru_maxrss would begin at that of the process it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = next(x.split()[1] for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(kilobytes) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def row(name: str, ours: float | None, peer: float | None, peer_name: str, unit: str, check: str) -> dict:
    """One measurement; ``ours`` and ``peer`` are rates, so that a ratio above 1 is for us. What was not measured is
    None."""
    return {
        "name": name, "ours": ours, "peer": peer, "peer_name": peer_name,
        "ratio": ours / peer if ours is not None and peer else None, "unit": unit, "check": check, **of_now(),
    }  # fmt: skip


def of_now() -> dict:
    """Where a measurement is made, when, and of which code."""
    return {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), **commit()}
