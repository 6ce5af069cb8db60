"""Where things lie, and files read and written whole: JSON, JSON lines, hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import synthembed
from synthembed.ground.data_files.opener import ReadError, lines


def _checkout() -> Path:
    """The folder that this library was installed from, known by its profiles and notebooks."""
    places = Path(__file__).resolve().parents
    return next((p for p in places if (p / "profiles").is_dir() and (p / "notebooks").is_dir()), Path.cwd())


ROOT = _checkout()
PACKAGE = Path(synthembed.__file__).parent


def read_lines(path: Path) -> Iterator[dict]:
    """The objects of a JSON lines file of ours; streams. Raises ReadError naming file and line of a bad one."""
    for number, line in lines(path, empty=True):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ReadError(
                f"{path.name}, line {number}: not JSON ({error}): delete the line and run again"
            ) from None


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: Path, default=None):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def write_json(path: Path, data) -> None:
    """Atomically: a reader sees the old file or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def shown(path: Path) -> str:
    """A path as messages have it: from the checkout on, where it lies there."""
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
