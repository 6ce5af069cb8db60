"""Weakly supervised pairs for contrastive pre-training (Sec. 5.1, Table 7, Figure 3).

A pair is a title and the body that it stands above: of a web page, a paper, a question. Any JSONL or
Parquet file or hub data set with two such fields serves. Where none is at hand, the docstrings of
the pinned packages do: a summary line and what follows it, read from the installation at run time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from synthembed.corpus.example import Drops, Example
from synthembed.ground import places
from synthembed.ground.data_files.cell_values import field_of, text_of
from synthembed.ground.data_files.opener import TABLES, ReadError, tables_in
from synthembed.ground.data_files.table_rows import rows
from synthembed.labelled.installed_sets import docstrings, pinned
from synthembed.labelled.readers import LONGEST
from synthembed.profile.settings import Pretrain

INSTRUCTION = "Given a title, retrieve the text that it stands above"


class PairsError(ReadError):
    """A source of pairs that cannot be read; the message names it, the place and the remedy."""


def pairs(settings: Pretrain, seed: int = 0) -> list[Example]:
    """Examples without hard negatives, ``settings.limit`` at most; what is left out is counted and said.

    Raises PairsError if the source cannot be read or has fewer than two pairs.
    """
    drops, found, titles, bodies = Drops(), [], set(), set()
    for name, title, body in _read(settings, seed, drops):
        title, body = " ".join(title.split()), body.strip()[:LONGEST]
        if not title or not body:
            drops.add("empty title or body", name)
        elif title in titles or body in bodies:
            drops.add("title or body seen before", title)
        else:
            titles.add(title)
            bodies.add(body)
            found.append(Example(name, "short-long", INSTRUCTION, "", "", title, body))
            drops.kept += 1
        if len(found) == settings.limit:
            break
    if len(found) < 2:
        raise PairsError(
            f"pretrain.source {settings.source!r} has {len(found)} usable pairs: at least 2 are needed"
        )
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in drops.counts.most_common())
    print(f"{len(found):,} pairs from {settings.source}; left out: {left_out or 'none'}", flush=True)
    return found


def _read(settings: Pretrain, seed: int, drops: Drops) -> Iterator[tuple[str, str, str]]:
    """(id, title, body) of every pair of the source; an id begins with the source's name and "/"."""
    path = Path(settings.source)
    if settings.source == "docstrings":
        yield from docstrings(pinned(), seed, drops)
    elif of_hub := places.hub_id(settings.source):
        yield from _hub(settings, of_hub)
    else:
        yield from _files(path, settings)


def _files(path: Path, settings: Pretrain) -> Iterator[tuple[str, str, str]]:
    files = tables_in(path) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise PairsError(f"pretrain.source {settings.source!r}: no {TABLES} there")
    for file in files:
        for number, (place, row) in enumerate(rows(file, (settings.title, settings.body)), 1):
            yield f"{path.stem}/{file.stem}-{number}", *_fields(row, settings, place)


def _hub(settings: Pretrain, source: str) -> Iterator[tuple[str, str, str]]:
    import datasets

    try:
        rows = datasets.load_dataset(source, split="train", streaming=True)
    except Exception as error:
        raise PairsError(
            f"pretrain.source {settings.source!r} could not be read from the hub "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}): "
            'give a file, a folder, hub:owner/name, or "docstrings"'
        ) from None
    for number, row in enumerate(rows, 1):
        yield f"{source.replace('/', '-')}/{number}", *_fields(row, settings, f"row {number}")


def _fields(row: dict, settings: Pretrain, place: str) -> tuple[str, str]:
    """Title and body; one that is missing is "", and counted as such."""
    try:
        names = settings.title, settings.body
        title, body = ("" if field_of(row, n, place) is None else text_of(row, n, place) for n in names)
    except ReadError as error:
        raise PairsError(f"{error}: set pretrain.title and pretrain.body") from None
    return title, body
