"""Fingerprints of what moves a number: code, package data, versions, machine."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synthembed.ground.files import CHECKOUT, PACKAGE, ROOT

ASIDE = {"exercise", "explore"}  # tags of cells that no artefact is made from


def code_hash(stage: str) -> str:
    """Hash of the stage's notebook and of every module of ours that it reaches by imports, comments and docstrings
    aside. Cells that a reader writes in (widgets/exercises.py) are left out: an exercise that is solved makes
    nothing stale."""
    notebook = ROOT / "notebooks" / f"{stage}.ipynb"
    if not notebook.exists():
        return hashlib.sha256().hexdigest()[:16]
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code" and not ASIDE & set(c["metadata"].get("tags", ()))]
    sources = ["".join(c["source"]) for c in code]
    plain = [s if s.startswith("%") else without_comments(s) for s in sources]
    return _hash_of("\n".join(plain), "\n".join(s for s in sources if not s.startswith("%")))


def code_of(*modules: str) -> str:
    """Hash of modules of ours, e.g. "training.train", with all that they reach and the packages' versions: what
    a result within a stage depends on, when the stage's notebook also draws and explains."""
    return _hash_of(json.dumps(versions()), "\n".join(f"import synthembed.{name}" for name in modules))


def _hash_of(text: str, imports: str, package: Path = PACKAGE) -> str:
    digest = hashlib.sha256(text.encode())
    for path in sorted(_reached(imports, package)):
        digest.update(path.relative_to(package).as_posix().encode() + _module(path).digest)
        for file in _data_of(path):
            digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


# --- a module's source -----------------------------------------------------------------------------

# Strings, so that no # within one is taken for a comment; empty lines; comments with the space before them. In a raw
# string a quote after a backslash does not end it either; an empty line after one ends a statement, and stays.
_LEXED = re.compile(
    r"""(?P<string>\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"|(?<!\\\n)^[ \t]*(?:\#[^\n]*)?\n|[ \t]*\#[^\n]*",
    re.DOTALL | re.MULTILINE,
)


def without_comments(source: str) -> str:
    """Python source without its comments and the lines that are empty then; nothing else of it is touched."""
    return _LEXED.sub(lambda found: found["string"] or "", source)


def without_docstrings(source: str, tree: ast.Module) -> str:
    """Python source, parsed as ``tree``, without the docstrings that have lines of their own."""
    lines, gone = source.split("\n"), set()
    for body in _bodies(tree):
        if ast.get_docstring(body, clean=False) is None:
            continue
        at = body.body[0]
        before = lines[at.lineno - 1].encode()[: at.col_offset]
        after = lines[at.end_lineno - 1].encode()[at.end_col_offset :]
        if not before.strip() and not after.strip():
            gone.update(range(at.lineno - 1, at.end_lineno))
    return "\n".join(line for number, line in enumerate(lines) if number not in gone)


def _bodies(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    for node in _statements(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below a node; expressions, which are most of a tree, are not looked into."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        for below in getattr(node, field, ()):
            yield below
            yield from _statements(below)


@dataclass(frozen=True)
class _Module:
    """What a module's source says: a hash of its code, what it imports of ours, its PACKAGE_DATA."""

    digest: bytes
    imports: tuple[ast.AST, ...]
    data: tuple[str, ...]


def _module(path: Path) -> _Module:
    about = path.stat()
    return _read(path, about.st_mtime_ns, about.st_size)


@cache
def _read(path: Path, changed: int, size: int) -> _Module:
    source = path.read_text(encoding="utf-8")
    tree, data = ast.parse(source), ()
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PACKAGE_DATA":
            data = tuple(ast.literal_eval(node.value))
    code = without_comments(without_docstrings(source, tree))
    return _Module(hashlib.sha256(code.encode()).digest(), _imports(tree), data)


def _imports(tree: ast.Module) -> tuple[ast.AST, ...]:
    return tuple(node for node in _statements(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def _data_of(module: Path) -> list[Path]:
    """Package data that a module reads, as its ``PACKAGE_DATA`` says: patterns from the module's folder
    on. A changed prompt or recording is changed code."""
    return [file for pattern in _module(module).data for file in _files(module.parent, pattern)]


def _files(folder: Path, pattern: str) -> list[Path]:
    while pattern.startswith("../"):
        folder, pattern = folder.parent, pattern.removeprefix("../")
    return sorted(folder.glob(pattern))


def _reached(source: str, package: Path = PACKAGE) -> set[Path]:
    """Modules of ours that ``source``, which stands outside the package, imports, and those that they
    import in turn, with the packages that they lie in."""
    found: set[Path] = set()

    def visit(imports: tuple[ast.AST, ...], inside: tuple[str, ...]) -> None:
        for node in imports:
            for name in _imported(node, inside, package.name):
                for end in range(len(name) + 1):  # importing a.b.c runs a and a.b as well
                    add(name[:end])

    def add(name: tuple[str, ...]) -> None:
        module = package.joinpath(*name)
        path = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        if path not in found and path.exists():
            found.add(path)
            visit(_module(path).imports, name if module.is_dir() else name[:-1])

    visit(_imports(ast.parse(source)), ())
    return found


def _imported(node: ast.AST, inside: tuple[str, ...], top: str) -> list[tuple[str, ...]]:
    """What a statement in the package ``inside`` imports of ours, each as the path below ``top``; the names
    that it takes from a package may be modules of it."""
    if isinstance(node, ast.Import):
        return [tuple(a.name.split("."))[1:] for a in node.names if a.name.split(".")[0] == top]
    if not isinstance(node, ast.ImportFrom):
        return []
    named = tuple(node.module.split(".")) if node.module else ()
    if node.level:
        base = inside[: len(inside) - (node.level - 1)] + named
    elif named[:1] == (top,):
        base = named[1:]
    else:
        return []
    return [base, *((*base, a.name) for a in node.names)]


def commit() -> dict:
    """The commit of our code; none without git, or where the library came as a wheel."""
    if ROOT != CHECKOUT or not shutil.which("git"):
        return {"commit": None, "uncommitted_changes": False}

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, encoding="utf-8")
        return done.stdout.strip()

    changed = [line for line in git("status", "--porcelain").splitlines() if " results/" not in line]
    return {"commit": git("rev-parse", "HEAD") or None, "uncommitted_changes": bool(changed)}


def versions() -> dict[str, str]:
    """Versions of the packages that can move a number."""
    found = {"python": platform.python_version()}
    for name in [
        "torch",
        "transformers",
        "peft",
        "mteb",
        "sentence-transformers",
        "openai",
        "numpy",
        "pandas",
    ]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine() -> dict:
    """What a stage ran on; ``products`` is the precision of frozen weights' products, if it loaded a model;
    ``instructions`` those that torch uses, and ``threads`` how many sum, if it loaded torch."""
    found = {
        "system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(), "gpu": _gpu(),
    }  # fmt: skip
    if rounding := sys.modules.get("synthembed.model.cpu.bfloat16_linear"):
        found["products"] = "bfloat16" if rounding.is_faster() else "float32"
    if torch := sys.modules.get("torch"):
        found |= {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
    return found


def _gpu() -> str | None:
    """The GPU's name. torch, which takes seconds to import, is asked if it is there already or if the
    system shows a driver: of NVIDIA (also within WSL) or AMD."""
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if (
        "torch" not in sys.modules
        and not shutil.which("nvidia-smi")
        and not any(map(os.path.exists, drivers))
    ):
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
