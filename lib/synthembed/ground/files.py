"""Where things lie, and files read and written whole: JSON, JSON lines, hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import synthembed
from synthembed.ground.data_files.opener import ReadError, lines

PACKAGE = Path(synthembed.__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1]  # where the library is run from its repository
SHIPPED = PACKAGE / "project"  # in a wheel: the notebooks, the profiles and the lock (setup.py)


def _project() -> Path:
    """The folder of notebooks, profiles and results: the repository that the library lies in; of a library
    that was installed from a wheel, the nearest such folder from the current one upward, or the current one."""
    here = Path.cwd()
    places = (CHECKOUT, here, *here.parents)
    return next((p for p in places if is_project(p)), here)


def is_project(folder: Path) -> bool:
    return (folder / "profiles").is_dir() and (folder / "notebooks" / "00_overview.ipynb").is_file()


ROOT = _project()


def shipped(name: str) -> Path:
    """A file or folder of the repository: the project's own, or the one that came with the wheel."""
    return ROOT / name if (ROOT / name).exists() else SHIPPED / name


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


def read_yaml(path: Path):
    """A YAML file of the package; libyaml, where PyYAML was built with it, reads it ten times as fast."""
    import yaml

    return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def write_json(path: Path, data) -> None:
    """Atomically: a reader sees the old file or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def share_weights(folder: Path) -> None:
    """Let those read the weights in a folder who may read the folder: safetensors makes files that their owner alone
    can read, whatever the umask."""
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(OSError):  # another user's, or a file system without rights
            path.chmod(folder.stat().st_mode & 0o666)


def shown(path: Path) -> str:
    """A path as messages have it: from the checkout on, where it lies there."""
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def typed(path: Path) -> str:
    """A path as a command takes it in the folder that the shell stands in, quoted where a blank would divide it."""
    path, here = path.resolve(), Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
