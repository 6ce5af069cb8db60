"""Texts of evaluation sets, to keep them out of training (App. B)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from .examples import content_of
from .filters import LEAST_WORDS, NearDuplicates, normalised, words

HERE = Path(__file__).parent
SUITE = HERE / "suites" / "data"


def suite_texts() -> Iterator[str]:
    """Every text of the embedded suite, read from its files."""
    for path in sorted(SUITE.rglob("*.jsonl")):
        if path.name == "qrels.jsonl":
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from _strings({k: v for k, v in json.loads(line).items() if k not in ("id", "label")})


def suite_instructions() -> list[str]:
    """The instruction of every task of the embedded suite."""
    from .suites import TASKS

    prompts = [task[3] for task in TASKS]
    return [p["query"] if isinstance(p, dict) else p for p in prompts]


def recorded(file: Path) -> tuple[list[str], list[str]]:
    """(task instructions, other texts) in the replies of a recording, gzipped or not."""
    instructions, texts = [], []
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            reply = json.loads(content_of(json.loads(line)))
            instructions += reply.pop("tasks", [])
            texts += _strings(reply)
    return instructions, texts


def shared(
    ours: Iterable[str], theirs: Iterable[str], threshold: float = 0.7, least: int = LEAST_WORDS
) -> list[tuple[str, str]]:
    """(text of ours, text of theirs) wherever they are equal once normalised, or near-duplicates.

    Near: MinHash Jaccard over ``threshold``. Texts of fewer words than ``least`` say little (App. B)
    and are passed over.
    """
    exact: dict[str, str] = {}
    near = NearDuplicates(threshold)
    known = {str(number): text for number, text in enumerate(dict.fromkeys(theirs))}
    for key, text in known.items():
        if len(words(text)) >= least:
            exact[normalised(text)] = text
            near.seen(key, text)
    found = []
    for text in dict.fromkeys(ours):
        if len(words(text)) < least:
            continue
        if equal := exact.get(normalised(text)):
            found.append((text, equal))
        elif key := near.find(text):
            found.append((text, known[key]))
    return found


def _strings(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
