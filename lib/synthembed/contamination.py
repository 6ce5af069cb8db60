"""Texts of evaluation sets, to keep them out of training (App. B)."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
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
