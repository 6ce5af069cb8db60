"""Corpora as files: a parquet dataset with its card to publish, and other people's corpora to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import yaml

from synthembed.corpus.example import Example
from synthembed.corpus.languages import detected_language
from synthembed.ground import places
from synthembed.ground.data_files.cell_values import text_of
from synthembed.ground.data_files.opener import TABLES, ReadError, tables_in
from synthembed.ground.data_files.table_rows import rows
from synthembed.profile.settings import Profile
from synthembed.profile.taxonomy import Family


@dataclass(frozen=True)
class Origin:
    """Who wrote the texts of a corpus, and under which licence they are, as a dataset card says it."""

    generators: tuple[str, ...]  # models that replied
    licence: str  # as the hub writes it
    terms: str  # a sentence or two


def origin(profile: Profile, usage: dict) -> Origin:
    """Where the texts of a run come from; ``usage`` is stage 01's usage.json."""
    models = tuple(sorted(usage.get("models", {})))
    if other := profile.analyze.corpus:
        named = places.hub_id(other.source) or Path(other.source).name
        return Origin((), "other", f"The texts are those of the corpus {named}, and under its licence.")
    if profile.generate.backend == "recorded":
        told = "The texts were written by Claude, a model by Anthropic, for the requests of this project."
        return Origin(models, "apache-2.0", told)
    told = (
        "The terms of who runs these models say what their output may be used for; read them before sharing."
    )
    return Origin(models, "other", told)


def publish(examples: list[Example], statistics: dict, folder: Path, origin: Origin | None = None) -> Path:
    """Write ``folder`` so that ``datasets.load_dataset(folder)`` reads it: parquet and a dataset card, which
    names a licence only if the ``origin`` of the texts is known."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(map(asdict, examples)).drop(columns="further")
    frame.to_parquet(data / "train-00000-of-00001.parquet", index=False)
    languages = sorted(set(frame["language"]) | set(frame["target_language"]) - {""})
    card = _head(languages, origin) + _about(len(examples), languages, statistics, origin)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def _head(languages: list[str], origin: Origin | None) -> str:
    """The card's metadata, by a YAML library: "no" is Norwegian, and stays a text."""
    head: dict = {"license": origin.licence} if origin else {}
    if origin and origin.licence == "other":
        head["license_name"] = "see-the-section-where-the-texts-come-from"
    head |= {
        "task_categories": ["sentence-similarity", "feature-extraction"],
        "tags": ["synthetic", "text-embeddings"],
        "language": languages,
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
        ],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n"


def _about(count: int, languages: list[str], statistics: dict, origin: Origin | None) -> str:
    families = "\n".join(f"| {f} | {share:.1f} |" for f, share in statistics["families"].items())
    by = f"by {', '.join(origin.generators)} " if origin and origin.generators else ""
    terms = (
        origin.terms if origin else "Who wrote the texts, and under which licence they are, is not recorded."
    )
    return f"""# Synthetic training data for text embeddings

{count:,} examples (query, positive, hard negative where there is one) in {len(languages)} languages,
written {by}after the prompts of "Improving Text Embeddings with Large Language Models", in this
project's own wording. `instruction` goes before the query: `Instruct: {{instruction}}\\nQuery: {{query}}`.

| family | per cent |
|---|---|
{families}

{statistics["instructions"]} brainstormed instructions; distinct-2 of the English queries
{statistics["distinct_2_english_queries"]:.3f}. The texts are invented: names, figures and facts in them
are not to be relied on.

## Where the texts come from

{terms}
"""


# --- other people's corpora ----------------------------------------------------------------------

# jspringer/open-synthetic-embeddings: one JSONL file a family, rows instruction, query, positive,
# negative ("" where there is none), as that project's collection code writes them.
_OPEN_SYNTHETIC: dict[str, Family] = {
    "short_long": "short-long", "long_short": "long-short", "long_long": "long-long",
    "short_short": "short-short", "sts": "sts", "bitext": "bitext",
}  # fmt: skip
# clips/SynEmbedNL: task_type, task_desc, query, pos, neg, as its dataset card says; all Dutch.
_SYNEMBED: dict[str, Family] = {
    "sl": "short-long", "ls": "long-short", "ss": "short-short", "ll": "long-long", "sts": "sts",
}  # fmt: skip
KEYS = {
    "open-synthetic": ("instruction", "query", "positive", "negative"),
    "synembed": ("task_type", "task_desc", "query", "pos", "neg"),
}


def read_corpus(source: str, format: str, limit: int | None = None) -> Iterator[Example]:
    """Examples of another corpus: a folder or file of any form of ``ground.data_files.table_rows``, or a hub id.

    ``format`` is "open-synthetic" or "synembed". Raises ReadError naming file, row and key of what
    is not as the format says, and FileNotFoundError if ``source`` is neither here nor on the hub.
    """
    read = {"open-synthetic": _from_open_synthetic, "synembed": _from_synembed}[format]
    for count, example in enumerate(read(_files(source, KEYS[format]))):
        if limit is not None and count >= limit:
            return
        yield example


def _files(source: str, keys: tuple[str, ...]) -> Iterator[tuple[str, str, Iterator[tuple[str, dict]]]]:
    """(file's name, name of its examples, (place, row) of its rows) of the files of a corpus."""
    path, of_hub = Path(source), places.hub_id(source)
    if not of_hub and not path.exists():
        raise FileNotFoundError(f"analyze.corpus.source: there is no file or folder {source}")
    if of_hub:
        from huggingface_hub import snapshot_download

        patterns = ["*.jsonl", "*.parquet", "**/*.jsonl", "**/*.parquet"]
        try:
            path = Path(snapshot_download(of_hub, repo_type="dataset", allow_patterns=patterns))
        except Exception as error:
            raise FileNotFoundError(
                f"analyze.corpus.source: the hub did not give {of_hub!r}: {error}"
            ) from None
    files = [path] if path.is_file() else tables_in(path)
    if not files:
        raise FileNotFoundError(f"analyze.corpus.source {source!r} holds no file that is {TABLES}")
    named: dict[str, str] = {}
    for file in files:
        below = "" if file == path else file.parent.relative_to(path).as_posix().removeprefix(".")
        name = f"{below}/{re.sub(r'(?i)[.][a-z]+([.]gz)?$', '', file.name)}".removeprefix("/")
        if named.setdefault(name, file.name) != file.name:
            raise ReadError(
                f"{file.name} and {named[name]} in one folder have one name: are they the same texts twice? Keep one"
            )
        yield file.name, name, rows(file, also=keys)


def _from_open_synthetic(files) -> Iterator[Example]:
    for file, name, found in files:
        family = next((f for key, f in _OPEN_SYNTHETIC.items() if file.startswith(key)), None)
        if family is None:
            raise ReadError(f"{file}: the file's name must begin with one of {', '.join(_OPEN_SYNTHETIC)}")
        for number, (place, row) in enumerate(found, 1):
            values = _values(place, row, *KEYS["open-synthetic"])
            language = detected_language(values[1]) or "en"  # the corpus does not say
            target = (detected_language(values[2]) or "en") if family == "bitext" else ""
            yield _example(f"{name}-{number}", family, language, target, *values)


def _from_synembed(files) -> Iterator[Example]:
    for _, name, found in files:
        for number, (place, row) in enumerate(found, 1):
            kind, *values = _values(place, row, *KEYS["synembed"])
            if kind not in _SYNEMBED:
                raise ReadError(f"{place}: task_type {kind!r} is none of {', '.join(_SYNEMBED)}")
            yield _example(f"{name}-{number}", _SYNEMBED[kind], "nl", "", *values)


def _values(place: str, row: dict, *keys: str) -> list[str]:
    """The texts of a row; the last, the hard negative, may be missing."""
    *needed, negative = keys
    missing = [key for key in keys if key not in row] if isinstance(row, dict) else []
    if missing:
        raise ReadError(f"{place}: no {', '.join(missing)} among {', '.join(sorted(row))}")
    texts = [text_of(row, key, place) for key in needed]
    return [*texts, "" if row[negative] is None else text_of(row, negative, place)]


def _example(id, family, language, target, instruction, query, positive, negative) -> Example:
    return Example(id, family, instruction, language, target, query, positive, negative or None)
