"""Texts of evaluation sets: of the embedded suite, and of mteb's data sets on this machine (App. B)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthembed.ground.data_files.opener import ReadError
from synthembed.ground.files import PACKAGE, read_lines

PACKAGE_DATA = ("../evaluation/suites/data/**/*.jsonl",)  # read here, and so part of the code's fingerprint

SUITE = PACKAGE / "evaluation" / "suites" / "data"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A text of an evaluation set: a query of retrieval, a document of its corpus, a label, or any other."""

    set: str
    kind: Literal["query", "document", "label", "text"]
    text: str


_KINDS = {"queries": "query", "corpus": "document"}  # by the file's name, then by the field's
_FIELDS = {"query": "query", "positive": "document", "negative": "document", "label": "label",
           "subject": "label", "act": "label"}  # fmt: skip


def suite() -> Iterator[Evaluated]:
    """Every text of the embedded suite, read from its files."""
    for path in sorted(SUITE.rglob("*.jsonl")):
        if path.name == "qrels.jsonl":
            continue
        name = path.parent.relative_to(SUITE).as_posix()
        for row in read_lines(path):
            for field, value in row.items():
                of_field = _FIELDS.get(field, "text")
                kind = of_field if of_field == "label" else _KINDS.get(path.stem, of_field)
                if field != "id":
                    yield from (Evaluated(name, kind, text) for text in _strings(value))


def suite_texts() -> Iterator[str]:
    """The texts of the embedded suite without its labels."""
    return (found.text for found in suite() if found.kind != "label")


def mteb_texts(checked: Counter, cache: Path | None = None) -> Iterator[str]:
    """Test texts of the mteb data sets on this machine, without retrieval corpora: the paper does not
    count texts that a training and a test corpus share."""
    return (found.text for found in mteb_sets(checked, cache))


def mteb_sets(checked: Counter, cache: Path | None = None, corpora: bool = False) -> Iterator[Evaluated]:
    """Texts of every mteb data set that the cache of ``datasets`` on this machine holds.

    Streams from disk, without a network; ``checked`` counts the texts of each set. ``cache`` is the
    folder of ``datasets`` by default.
    """
    if cache is None:
        import datasets

        cache = Path(datasets.config.HF_DATASETS_CACHE)
    folders = {path.name.lower(): path for path in cache.glob("*___*") if path.is_dir()}
    if not folders:
        return
    for name, splits in sorted(_mteb_splits().items()):
        for file, kind in sorted(_arrow_files(folders.get(_folder_of(name)), splits)):
            if kind == "document" and not corpora:
                continue
            for row in _rows(file):
                for field, value in row.items():
                    if field.endswith("id"):
                        continue
                    for text in _strings(value):
                        checked[name] += 1
                        yield Evaluated(name, _FIELDS.get(field, kind) if kind == "text" else kind, text)


def _mteb_splits() -> dict[str, set[str]]:
    """Hub name of each data set of mteb → the splits that are evaluated, and the queries of retrieval."""
    import mteb

    found: dict[str, set[str]] = {}
    for task in mteb.get_tasks():
        found.setdefault(task.metadata.dataset["path"], {"queries"}).update(task.metadata.eval_splits)
    return found


def _folder_of(name: str) -> str:
    """The folder, in lower case, that ``datasets`` keeps a hub data set in."""
    from datasets.naming import camelcase_to_snakecase

    owner, _, short = name.rpartition("/")
    return f"{owner}___{camelcase_to_snakecase(short)}".lower()


def _arrow_files(folder: Path | None, splits: set[str]) -> Iterator[tuple[Path, str]]:
    """(Arrow file, kind) of the splits and of corpora, of which any split is one; what ``map`` and
    ``filter`` have cached beside them is no split."""
    for path in folder.rglob("*.arrow") if folder else ():
        named = re.fullmatch(r".+?-([^-]+)(-\d{5}-of-\d{5})?\.arrow", path.name)
        if not named or path.name.startswith("cache-"):
            continue
        if "corpus" in path.relative_to(folder).parts[0]:
            yield path, "document"
        elif named[1] in splits:
            yield path, "query" if named[1] == "queries" else "text"


def _rows(file: Path) -> Iterator[dict]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as batches:
            for batch in batches:
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ReadError(
            f"{file.name} in the cache of datasets cannot be read ({error}): delete it, or set analyze.leakage=false"
        ) from None


def _strings(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
