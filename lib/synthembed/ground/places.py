"""Where a setting points: a path of the shell, a hub id, or a name of ours; a project laid out; homes.

A hub id is written ``hub:owner/name``. A bare ``owner/name`` looks like a path, and a mistyped path or another
current folder would turn it into whatever the hub has under that name; so it is taken for a hub id only if
the paper's own settings name it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from synthembed.ground.files import ROOT, SHIPPED, sha256, shown

HUB = "hub:"
# What the paper and the profiles name of the hub; nobody means a folder by it unless there is one.
OF_THE_PAPER = frozenset({
    "mistralai/Mistral-7B-v0.1", "meta-llama/Llama-2-7b-hf", "FacebookAI/xlm-roberta-large", "xlm-roberta-large",
    "intfloat/e5-mistral-7b-instruct", "intfloat/multilingual-e5-base", "intfloat/multilingual-e5-large",
    "intfloat/personalized_passkey_retrieval", "dwzhu/LongEmbed",
})  # fmt: skip
LIKE_A_PATH = re.compile(r"[.~/\\]|[A-Za-z]:[\\/]")


class PlaceError(ValueError):
    """A setting that names nothing that is there; the message says where it was looked for."""


def resolve(value: str, near: Iterable[Path] = (), ours: Iterable[str] = ()) -> str:
    """``value`` as it is kept: an absolute path of what is there, ``hub:owner/name``, or one of our names
    (``ours``, and what begins with ``embedded:``).

    A relative path is the shell's; where there is nothing, one from the profile file's folder (``near``) or
    the project's on. What looks like a path (``./texts.jsonl``) and is not there stays as it is, to be put
    there before it is read. Raises PlaceError for what is neither.
    """
    if value in ours or value.startswith("embedded:"):
        return value
    if value.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", value.removeprefix(HUB)):
            raise PlaceError(f"{value!r} is no hub id: write hub:owner/name")
        return value
    looked = list(dict.fromkeys([Path.cwd(), *near, ROOT]))
    for folder in looked:
        path = folder / Path(value).expanduser()
        if value and path.exists():
            return os.path.abspath(path)
    if value in OF_THE_PAPER:
        return HUB + value
    if LIKE_A_PATH.match(value):
        return value
    hub = f"; if it is meant of the hub, write {HUB}{value}" if value.count("/") < 2 else ""
    names = f", nor one of {', '.join(ours)}" if ours else ""
    raise PlaceError(f"no file or folder {value!r} in {' or '.join(map(str, looked))}{names}{hub}")


def as_written(value: str) -> str:
    """A resolved place without what differs from machine to machine, for records and fingerprints."""
    return shown(Path(value)) if os.path.isabs(value) else value


def hub_id(value: str) -> str | None:
    """The id alone of what is of the hub; None for a path."""
    if value.startswith(HUB):
        return value.removeprefix(HUB)
    return value if value in OF_THE_PAPER and not Path(value).exists() else None


def name_for(value: str) -> str:
    """What ``from_pretrained`` and its like take: a hub id without its mark, a path as it is.

    Raises PlaceError for a path where nothing is, which they would look for on the hub.
    """
    if found := hub_id(value):
        return found
    if not Path(value).exists():
        hub = f"; a hub id is written {HUB}{value}" if not LIKE_A_PATH.match(value) else ""
        raise PlaceError(f"there is no file or folder {value} (looked in {Path.cwd()}){hub}")
    return value


def digest(path: Path) -> str:
    """SHA-256 of a file, or over names and contents of all files of a folder; "" where nothing is."""
    if path.is_file():
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns)
    if not path.is_dir():
        return ""
    files = sorted(p for p in path.rglob("*") if p.is_file() and ".git" not in p.relative_to(path).parts)
    told = "\n".join(f"{p.relative_to(path).as_posix()} {digest(p)}" for p in files)
    return hashlib.sha256(told.encode()).hexdigest()


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, time_ns: int) -> str:
    """Once in a process, as every stage of a run asks for it."""
    return sha256(path)


# --- a project's folder ---------------------------------------------------------------------------


def lay_out(folder: Path) -> tuple[list[str], list[str]]:
    """Copy the notebooks and profiles that came with the library to ``folder``: (new files, files that were
    there and differ). What is there already is never touched."""
    new, other = [], []
    for source in sorted([*SHIPPED.glob("notebooks/*.ipynb"), *SHIPPED.glob("profiles/*.yaml")]):
        name = source.relative_to(SHIPPED).as_posix()
        target = folder / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            new.append(name)
        elif target.read_bytes() != source.read_bytes():
            other.append(name)
    return new, other


CACHES = {
    "XDG_CACHE_HOME": "", "HF_HOME": "huggingface", "MTEB_CACHE": "mteb", "MPLCONFIGDIR": "matplotlib",
    "IPYTHONDIR": "ipython", "JUPYTER_RUNTIME_DIR": "jupyter/runtime", "JUPYTER_CONFIG_DIR": "jupyter/config",
    "JUPYTER_DATA_DIR": "jupyter/data",
}  # fmt: skip


def keep_out_of_home() -> None:
    """Where there is no home folder to write to (a container, a service's user), send what packages keep
    there to ``.cache`` in the project's folder; kernels inherit it. A user's own variables win."""
    try:
        home = Path.home()
        with tempfile.TemporaryFile(dir=home if home.is_absolute() else "/nowhere"):
            return
    except (OSError, RuntimeError):  # it cannot be written; it is not known
        for variable, name in CACHES.items():
            os.environ.setdefault(variable, str(ROOT / ".cache" / name))
