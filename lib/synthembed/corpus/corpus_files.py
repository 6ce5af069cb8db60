"""Corpora as files: a parquet dataset with its card to publish, and other people's corpora to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import yaml

from synthembed.corpus.example import Example
from synthembed.corpus.languages import detected_language
from synthembed.ground import places
from synthembed.ground.files import parquet_rows, read_lines
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
    frame = pd.DataFrame(map(asdict, examples))
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


def read_corpus(source: str, format: str, limit: int | None = None) -> Iterator[Example]:
    """Examples of another corpus: a folder or file of JSON lines or parquet, or a hub id.

    ``format`` is "open-synthetic" or "synembed". Raises ValueError naming file, row and key of what
    is not as the format says, and FileNotFoundError if ``source`` is neither here nor on the hub.
    """
    read = {"open-synthetic": _from_open_synthetic, "synembed": _from_synembed}[format]
    for count, example in enumerate(read(_files(source))):
        if limit is not None and count >= limit:
            return
        yield example


def _files(source: str) -> Iterator[tuple[str, Iterator[dict]]]:
    """(file name, rows) of a corpus."""
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
    files = [path] if path.is_file() else sorted([*path.rglob("*.jsonl"), *path.rglob("*.parquet")])
    if not files:
        raise FileNotFoundError(f"analyze.corpus.source {source!r} holds no .jsonl or .parquet file")
    for file in files:
        yield file.name, parquet_rows(file) if file.suffix == ".parquet" else read_lines(file)


def _from_open_synthetic(files) -> Iterator[Example]:
    for name, rows in files:
        stem = name.partition(".")[0]
        family = next((f for key, f in _OPEN_SYNTHETIC.items() if stem.startswith(key)), None)
        if family is None:
            raise ValueError(f"{name}: the file's name must begin with one of {', '.join(_OPEN_SYNTHETIC)}")
        for number, row in enumerate(rows, 1):
            values = _values(name, number, row, "instruction", "query", "positive", "negative")
            language = detected_language(values[1]) or "en"  # the corpus does not say
            target = (detected_language(values[2]) or "en") if family == "bitext" else ""
            yield _example(f"{stem}-{number}", family, language, target, *values)


def _from_synembed(files) -> Iterator[Example]:
    for name, rows in files:
        for number, row in enumerate(rows, 1):
            kind, *values = _values(name, number, row, "task_type", "task_desc", "query", "pos", "neg")
            if kind not in _SYNEMBED:
                raise ValueError(
                    f"{name}, row {number}: task_type {kind!r} is none of {', '.join(_SYNEMBED)}"
                )
            yield _example(f"{name.partition('.')[0]}-{number}", _SYNEMBED[kind], "nl", "", *values)


def _values(name: str, number: int, row: dict, *keys: str) -> list:
    missing = [key for key in keys if key not in row]
    if missing:
        raise ValueError(f"{name}, row {number}: no {', '.join(missing)} among {', '.join(sorted(row))}")
    return [row[key] for key in keys]


def _example(id, family, language, target, instruction, query, positive, negative) -> Example:
    return Example(id, family, instruction, language, target, query, positive, negative or None)
