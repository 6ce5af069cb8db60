"""What this machine computes on, and how much of its memory was used."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def peak_memory(on: torch.device) -> float:
    """Peak GB so far: of the GPU, or of this process."""
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: of a GPU, or of this process, whose allocator only says it."""
    told = ("not enough memory", "allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error) for part in told)
    )


def release() -> None:
    """Give back memory that nothing needs: tensors that only cycles hold, and what torch keeps of an accelerator's,
    which no other process has otherwise."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


@contextmanager
def on_cpu(model: torch.nn.Module) -> Iterator[None]:
    """The weights on the CPU within the block, and where they were after it: a GPU's memory is its workers'
    meanwhile, and what is sent to a node without one can be read there."""
    home = next(model.parameters()).device
    model.to("cpu")
    release()
    try:
        yield
    finally:
        model.to(home)


def device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def dtype_of(name: str, on: torch.device) -> torch.dtype:
    """ "auto": bfloat16 where a GPU has it, float16 on older GPUs (the paper's V100), float32 on CPU."""
    if name != "auto":
        return getattr(torch, name)
    if on.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
