"""What more than one process or machine gives, and what Ray costs."""

from __future__ import annotations

from benchmarks import scale_encode, scale_train


def run() -> list[dict]:
    return [*scale_train.run(), *scale_encode.run()]
