"""Corpora as files: a parquet dataset with its card to publish, and other people's corpora to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from .examples import Example
from .taxonomy import Family


def publish(examples: list[Example], statistics: dict, folder: Path) -> Path:
    """Write ``folder`` so that ``datasets.load_dataset(folder)`` reads it: parquet and a dataset card."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(map(asdict, examples))
    frame.to_parquet(data / "train-00000-of-00001.parquet", index=False)
    languages = sorted(set(frame["language"]) | set(frame["target_language"]) - {""})
    listed = "\n".join(f"- {code}" for code in languages)
    families = "\n".join(f"| {f} | {share:.1f} |" for f, share in statistics["families"].items())
    (folder / "README.md").write_text(
        f"""---
license: apache-2.0
task_categories: [sentence-similarity, feature-extraction]
tags: [synthetic, text-embeddings]
language:
{listed}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
# Synthetic training data for text embeddings

{len(examples):,} examples (query, positive, hard negative where there is one) in {len(languages)} languages,
written by an LLM after the prompts of "Improving Text Embeddings with Large Language Models", in this
project's own wording. `instruction` goes before the query: `Instruct: {{instruction}}\\nQuery: {{query}}`.

| family | per cent |
|---|---|
{families}

{statistics["instructions"]} brainstormed instructions; distinct-2 of the English queries
{statistics["distinct_2_english_queries"]:.3f}. The texts are invented: names, figures and facts in them
are not to be relied on.
""",
        encoding="utf-8",
    )
    return folder


# clips/SynEmbedNL's task types (its dataset card); all its texts are Dutch.
_SYNEMBED: dict[str, Family] = {
    "sl": "short-long", "ls": "long-short", "ss": "short-short", "ll": "long-long", "sts": "sts",
}  # fmt: skip


def from_synembed(rows: Iterator[dict], language: str = "nl") -> Iterator[Example]:
    """Examples from rows of clips/SynEmbedNL: task_type, task_desc, query, pos, neg.

    Raises ValueError naming the row and the key or value that is not as its card says.
    """
    for number, row in enumerate(rows):
        try:
            family = _SYNEMBED[row["task_type"]]
            yield Example(
                f"synembed-{number}",
                family,
                row["task_desc"],
                language,
                "",
                row["query"],
                row["pos"],
                row.get("neg") or None,
            )
        except KeyError as missing:
            raise ValueError(f"row {number} of SynEmbedNL: no {missing} in {sorted(row)}") from None
