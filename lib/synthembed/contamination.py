"""Texts of evaluation sets, to keep them out of training (App. B)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

SUITE = Path(__file__).parent / "suites" / "data"


def suite_texts() -> Iterator[str]:
    """Every text of the embedded suite, read from its files."""
    for path in sorted(SUITE.rglob("*.jsonl")):
        if path.name == "qrels.jsonl":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from _strings({k: v for k, v in json.loads(line).items() if k not in ("id", "label")})


def _strings(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
