"""The paper's numbers (published.json) and the registry of its tables and figures (artefacts.yaml).

Look-ups only; nothing is computed here. Table numbers are those of the ACL 2024 version (arXiv
2401.00368 v3). artefacts.yaml explains its own form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from synthembed.ground.files import read_yaml
from synthembed.profile.reading import ProfileError
from synthembed.profile.settings import Profile

PACKAGE_DATA = ("published.json", "artefacts.yaml")  # read here, and so part of the code's fingerprint

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """One published number: whose it is (``system``, as published), and what it measures (``keys``)."""

    artefact: str
    row: str
    column: str
    value: float
    system: str
    own: bool  # of the paper's own models, which a run can produce
    tolerance: float
    keys: dict[str, str] = field(compare=False, hash=False)

    @property
    def id(self) -> str:
        return f"{self.artefact}/{short(self.row)}/{self.column}"


@cache
def published() -> dict:
    return json.loads((FOLDER / "published.json").read_text(encoding="utf-8"))


@cache
def _registry() -> dict:
    return read_yaml(FOLDER / "artefacts.yaml")


def artefacts(*kinds: str) -> dict[str, dict]:
    """The registry's entries by name, of all kinds or those named: table, figure, method."""
    found = _registry()["artefacts"]
    return {name: entry for name, entry in found.items() if not kinds or entry["kind"] in kinds}


def benchmarks() -> dict[str, dict]:
    """Benchmark → {} if a number on it compares with the paper's, {"why": reason} if not."""
    return _registry()["benchmarks"]


def recipe() -> dict[str, dict[str, Any]]:
    """Part of the method → what the paper states of it, as artefacts.yaml explains (recipe.py compares)."""
    return _registry()["recipe"]


def moved_by_mteb() -> list[str]:
    """Sets that newer mteb scores otherwise than the paper's."""
    return _registry()["moved_by_mteb"]


TITLES = {name: entry["title"] for name, entry in artefacts("table", "figure").items()}


def short(row: str) -> str:
    """A row's name in ids: the paper's own model goes without its name."""
    return row.removeprefix("E5_mistral-7b").removeprefix(" + ").strip() or row


def anchor(artefact: str) -> str:
    """Where an artefact is shown, as a link: its notebook and, as Jupyter names it, the heading there."""
    shown = artefacts()[artefact]["shown"]
    return f"{shown['notebook']}.ipynb#{quote(shown['heading'].replace(' ', '-'), safe=':,')}"


def systems(artefact: str) -> dict[str, dict]:
    """The systems of an artefact by published name, in the paper's order, each with its ``group``."""
    groups = artefacts()[artefact].get("systems", {})
    return {name: {**about, "group": g} for g, named in groups.items() for name, about in named.items()}


def fills(setting: str) -> dict[str, str]:
    """artefact → the row (or column) that a run's main model fills when trained on ``setting``.

    Raises ValueError for a setting that the paper does not have.
    """
    known = {about["setting"] for a in artefacts() for about in systems(a).values() if "setting" in about}
    if setting not in known:
        raise ValueError(f"data.setting = {setting!r}: the paper has {', '.join(sorted(known))}")
    return {
        artefact: name
        for artefact in artefacts()
        for name, about in systems(artefact).items()
        if about.get("main") and about["setting"] == setting
    }


def table(artefact: str) -> dict:
    """Rows and columns of a table as published: {"columns": [...], "rows": {row: {column: value}}}."""
    return published()[artefact]


def cells(artefact: str) -> Iterator[Cell]:
    """Every published number of one artefact, in the paper's order."""
    entry, known = artefacts()[artefact], systems(artefact)
    for form in entry.get("cells", []):
        index = next(_walk(published(), form["index"].split("/"), {}))[1] if "index" in form else None
        for keys, value in _walk(published(), form["path"].split("/"), {}, index):
            if not isinstance(value, (int, float)):
                continue  # Table 5's default has no difference to itself
            row = form.get("row", "{row}").format(**keys)
            column = form.get("column", "{column}").format(**keys)
            system = form.get("system", "{row}").format(**{"row": row} | keys)
            yield Cell(
                artefact, row, column, float(value), system, "setting" in known[system], entry["tolerance"],
                {"row": row, "column": column} | keys,
            )  # fmt: skip


def _walk(node, path: list[str], keys: dict, index=None) -> Iterator[tuple[dict, Any]]:
    """(keys, value) for every value below ``node`` that ``path`` reaches."""
    if not path:
        yield keys, node
        return
    step = path[0]
    if not step.startswith("{"):
        yield from _walk(node[step], path[1:], keys, index)
        return
    entries = zip(map(str, index), node, strict=True) if isinstance(node, list) else node.items()
    for key, below in entries:
        yield from _walk(below, path[1:], keys | {step[1:-1]: key}, index)


def ways(cell: Cell) -> dict[str, dict]:
    """benchmark → the conditions on rows of scores.json that make this cell, best benchmark first.

    ``tasks`` and ``subsets`` among them say how many there must be.
    """
    found = {}
    for benchmark, tables in artefacts()[cell.artefact].get("measured_on", {}).items():
        lines = [table.get(cell.keys[key]) for key, table in tables.items() if key != "all"]
        if None not in lines:  # or else the benchmark does not have the cell
            found[benchmark] = {k: v for line in [tables.get("all", {}), *lines] for k, v in line.items()}
    return found


def check_fills(profile: Profile) -> None:
    """Raises ProfileError if an ablation fills an artefact or a row of it that the paper does not have, or
    fills any from random weights: every model of the paper starts from a pre-trained one."""
    for row in profile.ablations.rows:
        start = profile.with_overrides(profile.ablations.set | row.set).backbone.initialisation
        if row.fills and start == "random":
            raise ProfileError(
                f"ablation {row.id!r} starts from random weights and fills {', '.join(row.fills)}: every row of "
                "the paper starts from a pre-trained model. Leave its fills out, it is then a row of its own"
            )
        for artefact, name in row.fills.items():
            if artefact not in TITLES:
                raise ProfileError(
                    f"ablation {row.id!r} fills {artefact!r}, which is none of {', '.join(TITLES)}"
                )
            if name not in (known := systems(artefact)):
                raise ProfileError(
                    f"ablation {row.id!r} fills row {name!r} of {artefact}, which has: {'; '.join(known)}"
                )
