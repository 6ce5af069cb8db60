"""What a check says: a finding with a name, and the run that checks read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synthembed.ground.files import shown
from synthembed.report.results import Results

CONTRADICTION, DOUBT, LEFT_OUT, HELD = "contradiction", "doubt", "left out by design", "held"
KINDS = (CONTRADICTION, DOUBT, LEFT_OUT, HELD)


@dataclass(frozen=True)
class Finding:
    """``name`` is the same for every run with this trouble; ``where`` is a file or a stage of the run."""

    kind: str
    name: str
    where: str
    said: str

    def __str__(self) -> str:
        return f"{self.name}: {self.where}: {self.said}" if self.where else f"{self.name}: {self.said}"


Findings = Iterator[Finding]


def wrong(name: str, where: str, said: str) -> Finding:
    return Finding(CONTRADICTION, name, where, said)


def doubt(name: str, where: str, said: str) -> Finding:
    return Finding(DOUBT, name, where, said)


def held(name: str, said: str) -> Finding:
    return Finding(HELD, name, "", said)


class Unreadable(RuntimeError):
    """A file of a run that is not what its name says."""


class Run:
    """A folder of stages, as a reviewer got it: ``records`` are the stage.json that there are."""

    def __init__(self, folder: Path):
        self.folder = folder
        paths = sorted(folder.glob("*/stage.json"))
        self.records: dict[str, dict] = {
            p.parent.name: self.json(f"{p.parent.name}/stage.json") for p in paths
        }

    def json(self, name: str, default=None):
        """The content of a JSON file of the run; ``default`` if it is not there. Raises Unreadable."""
        path = self.folder / name
        if not path.exists():
            return default
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise Unreadable(f"{shown(path)} is not JSON: {error}") from None

    def lines(self, name: str) -> list[dict]:
        """The objects of a JSON lines file of the run, or []. Raises Unreadable."""
        path = self.folder / name
        if not path.exists():
            return []
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except ValueError as error:
            raise Unreadable(f"{shown(path)} is not JSON lines: {error}") from None

    @cached_property
    def results(self) -> Results:
        return Results(self.folder)

    def settings(self, stage: str) -> dict:
        return self.records.get(stage, {}).get("settings", {})

    @property
    def whole_settings(self) -> dict:
        """Every section that some stage has recorded."""
        return {k: v for record in self.records.values() for k, v in record.get("settings", {}).items()}


def near(first: float, other: float, by: float = 1e-6) -> bool:
    return first == other or abs(first - other) <= by * max(1.0, abs(first), abs(other))
