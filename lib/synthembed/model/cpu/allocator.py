"""Memory that is kept when it is freed."""

from __future__ import annotations

import ctypes
from functools import cache


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
