"""What this machine can do: the matrix-product rate that bounds a model, and memory that was used."""

from __future__ import annotations

import ctypes
import time
from functools import cache

import torch

from . import products


def matrix_rate(
    on: torch.device, seconds: float = 0.3, dtype: torch.dtype | None = None, fastest: bool = True
) -> float:
    """Multiply-add operations per second of a large matrix product: the bound for MFU.

    In ``dtype``, or in bfloat16 on a GPU and float32 elsewhere, by the library that our layers use
    (products.py), or by torch's own product if not ``fastest``.
    """
    size = 4096 if on.type == "cuda" else 1024
    kind = dtype or (torch.bfloat16 if on.type == "cuda" else torch.float32)
    a = torch.randn(size, size, device=on, dtype=kind)
    product = products.linear if fastest and products.use_onednn() else torch.matmul
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        product(a, a)[0, 0].item()
        count += 1
    return 2 * size**3 * count / (time.monotonic() - start)


def peak_memory(on: torch.device) -> float:
    """Peak GB so far: of the GPU, or of this process."""
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@cache
def keep_freed_memory() -> bool:
    """Let this process keep large blocks that it frees; True if the C library can.

    glibc gives them back to the system at once and asks for them again at the next layer, and a new
    page is cleared before it is used: on CPU that took a tenth and more of an encoding pass
    (docs/decisions.md).
    """
    mmap_threshold, trim_threshold = -3, -1  # names of mallopt(3)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(mmap_threshold, 2**30) and mallopt(trim_threshold, 2**31 - 1))


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: of a GPU, or of this process, whose allocator only says it."""
    told = ("not enough memory", "allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error) for part in told)
    )
