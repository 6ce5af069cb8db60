"""Memory that this process may take: the machine's, or less where its container or batch job is given less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

OWN, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# (limit, taken, the part of it that is files read and given back at need), in version 2 of control groups and in 1
FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_and_total() -> tuple[float, float]:
    """In GB. Beyond the limit of its group a process is killed, whatever the machine has."""
    machine = psutil.virtual_memory()
    free, total = machine.available, machine.total
    for folder, (limit, taken, files) in _groups():
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such group, or no limit ("max")
            most = int((folder / limit).read_text(encoding="ascii"))
            stat = dict(
                line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            )
            left = most - int((folder / taken).read_text(encoding="ascii")) + int(stat[files])
            free, total = min(free, max(0, left)), min(total, most)
    return free / 1e9, total / 1e9


def _groups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """This process's group and those that it lies in, up to what stands for the root here."""
    with contextlib.suppress(OSError):  # no Linux
        for line in OWN.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in FILES:
                root = GROUPS / controllers
                own = root / path.strip("/")
                for folder in (own, *own.parents):
                    yield folder, FILES[controllers]
                    if folder == root:
                        break
