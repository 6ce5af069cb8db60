"""What more than one process or machine gives, and what Ray costs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import scale_encode, scale_train


def run() -> Iterator[dict]:
    yield from scale_encode.run()
    yield from scale_train.run()
