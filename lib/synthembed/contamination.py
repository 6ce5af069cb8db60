"""Texts of evaluation sets, to keep them out of training (App. B)."""

from __future__ import annotations

import json
import re
from collections import Counter
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


def mteb_texts(checked: Counter, cache: Path | None = None) -> Iterator[str]:
    """Test texts of every mteb data set that the cache of ``datasets`` on this machine holds.

    Streams from disk, without a network; ``checked`` counts the texts of each set. ``cache`` is the
    folder of ``datasets`` by default. Retrieval corpora are not read, as the paper does not count
    texts that a training and a test corpus share.
    """
    if cache is None:
        import datasets

        cache = Path(datasets.config.HF_DATASETS_CACHE)
    folders = {path.name.lower(): path for path in cache.glob("*___*") if path.is_dir()}
    if not folders:
        return
    for name, splits in sorted(_mteb_splits().items()):
        for file in sorted(_arrow_files(folders.get(_folder_of(name)), splits)):
            for row in _rows(file):
                for text in _strings({k: v for k, v in row.items() if not k.endswith("id")}):
                    checked[name] += 1
                    yield text


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


def _arrow_files(folder: Path | None, splits: set[str]) -> Iterator[Path]:
    """Arrow files of the splits; what ``map`` and ``filter`` have cached beside them is no split."""
    for path in folder.rglob("*.arrow") if folder else ():
        named = re.fullmatch(r".+?-([^-]+)(-\d{5}-of-\d{5})?\.arrow", path.name)
        config = path.relative_to(folder).parts[0]
        if named and not path.name.startswith("cache-") and "corpus" not in config and named[1] in splits:
            yield path


def _rows(file: Path) -> Iterator[dict]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as batches:
            for batch in batches:
                yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"{file.name} in the cache of datasets cannot be read ({error}): delete it, or set analyze.leakage=false"
        ) from None


def _strings(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
