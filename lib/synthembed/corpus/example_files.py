"""Examples from stored replies, and as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from synthembed.corpus.example import Drops, Example, example_of
from synthembed.generation.items import Item
from synthembed.generation.parsing import Rejected
from synthembed.ground.files import read_lines


def from_replies(replies: Path, items: dict[str, Item], drops: Drops) -> Iterator[Example]:
    """The examples in a file of replies; unusable replies are counted in ``drops``.

    ``items`` maps custom_id to Item; replies to brainstorms, and to requests that are not in
    ``items`` (of an earlier profile), are no examples and are passed over.
    """
    for line in read_lines(replies):
        item = items.get(line["custom_id"])
        if item is None or item.step != "example":
            continue
        try:
            yield example_of(line, item)
        except Rejected as reason:
            drops.add(str(reason), json.dumps(line.get("response") or line.get("error"), ensure_ascii=False))


def write(path: Path, examples: Iterable[Example]) -> int:
    """Examples as JSON lines; returns how many."""
    count = 0
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8") as file:
        for example in examples:
            row = asdict(example)
            if not example.further:  # few have more than one negative
                del row["further"]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def read(path: Path) -> list[Example]:
    """Examples from JSON lines; raises ValueError naming file and line of a bad one."""
    found = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                found.append(Example(**row | {"further": tuple(row.get("further", ()))}))
            except (json.JSONDecodeError, TypeError) as error:
                raise ValueError(f"{path.name}, line {number}: not an example ({error})") from None
    return found
