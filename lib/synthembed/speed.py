"""What a training step is measured by: the matrix-product rate of this machine, and peak memory."""

from __future__ import annotations

import time

import torch


def matrix_rate(on: torch.device, seconds: float = 0.3) -> float:
    """Multiply-add operations per second of a large matrix product: the bound for MFU."""
    size = 4096 if on.type == "cuda" else 1024
    kind = torch.bfloat16 if on.type == "cuda" else torch.float32
    a = torch.randn(size, size, device=on, dtype=kind)
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        (a @ a)[0, 0].item()
        count += 1
    return 2 * size**3 * count / (time.monotonic() - start)


def peak_memory(on: torch.device) -> float:
    """Peak GB so far: of the GPU, or of this process."""
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
