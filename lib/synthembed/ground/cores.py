"""How many of the machine's cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

# The quota of the container that this process is in: "max", or µs in a period of µs.
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """The cores of the machine, or as many as a batch system has bound this process to, or as its container's quota
    is worth. More threads would wait for each other, and in a container be halted together."""
    bound = hasattr(os, "sched_getaffinity")
    found = len(os.sched_getaffinity(0)) if bound else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no cgroups, or no quota
        quota, period = map(int, QUOTA.read_text(encoding="ascii").split())
        found = min(found, max(1, math.ceil(quota / period)))
    return found
