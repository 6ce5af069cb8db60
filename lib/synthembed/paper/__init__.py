"""The paper's published numbers as data (published.json) and one accessor; computes nothing else.

Table numbers are those of the ACL 2024 version (arXiv 2401.00368 v3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TITLES = {
    "table1": "MTEB English, 56 datasets",
    "table2": "MIRACL dev, nDCG@10, high- and low-resource languages",
    "table3": "Commercial models and the leaderboard's top",
    "table4": "Bitext mining, F1",
    "table5": "Ablations on MTEB",
    "table6": "MIRACL dev, 16 languages",
    "table7": "Contrastive pre-training",
    "table17": "MTEB English by dataset",
    "figure2": "Synthetic data by task type and language",
    "figure3": "Contrastive pre-training, bars",
    "figure5": "Personalised passkey retrieval by context length",
}
TOLERANCE = 0.1  # the paper prints one decimal; card scores recompute to its cells within this


@dataclass(frozen=True)
class Cell:
    """One published number. ``own`` marks rows of the paper's own models, which a run can produce."""

    artefact: str
    row: str
    column: str
    value: float
    own: bool
    tolerance: float = TOLERANCE

    @property
    def id(self) -> str:
        return f"{self.artefact}/{short(self.row)}/{self.column}"


@cache
def published() -> dict:
    return json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))


def short(row: str) -> str:
    """A row's name in ids: the paper's own model goes without its name."""
    return row.removeprefix("E5_mistral-7b").removeprefix(" + ").strip() or row


def table(artefact: str) -> dict:
    """Rows and columns of a table as published: {"columns": [...], "rows": {row: {column: value}}}."""
    return published()[artefact]


def cells(artefact: str) -> Iterator[Cell]:
    """Every published number of one artefact, in the paper's order."""
    data = published()[artefact]
    if artefact == "figure2":
        total = sum(data["task_types_k"].values())
        for family, thousands in data["task_types_k"].items():
            yield Cell(artefact, "task types", family, round(100 * thousands / total, 1), True, 1.0)
        for language, share in data["languages_pct"].items():
            yield Cell(artefact, "languages", language, share, True, 1.0)
    elif artefact == "figure3":
        for row, bars in data["series"].items():
            for kind in ("original", "w/ cont. pre-train"):
                for column, value in bars[kind].items():
                    yield Cell(artefact, f"{row}, {kind}", column, value, True)
    elif artefact == "figure5":
        for row, values in data["series"].items():
            for length, value in zip(data["lengths"], values, strict=True):
                yield Cell(artefact, row, str(length), value, True, 4.0)  # read off a chart; 50 queries
    elif artefact == "table6":
        for row, metrics in data["rows"].items():
            for metric, systems in metrics.items():
                for system, value in systems.items():
                    yield Cell(artefact, row, f"{metric} {system}", value, "E5_mistral" in system)
    else:
        for row, values in data["rows"].items():
            for column, value in values.items():
                if isinstance(value, (int, float)):
                    yield Cell(artefact, row, column, float(value), _own(artefact, row))


def _own(artefact: str, row: str) -> bool:
    if artefact in ("table5", "table7", "table17"):
        return True
    return row.startswith(("E5_mistral", "w/ "))
