"""API reference of the library, read from its source: nothing is imported, so it needs no torch and no time."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from synthembed.ground.files import PACKAGE

RULE = "=-~"


def write(folder: Path) -> list[str]:
    """A page for every room of the library; their names, in the order of the rooms' names."""
    folder.mkdir(parents=True, exist_ok=True)
    rooms = sorted(p.parent for p in PACKAGE.glob("*/__init__.py"))
    for room in rooms:
        (folder / f"{room.name}.rst").write_text(page(room), encoding="utf-8")
    return [room.name for room in rooms]


def page(room: Path) -> str:
    """A room's modules with their public functions and classes, as reStructuredText."""
    about = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    said = [_title(f"synthembed.{room.name}", 0), _text(about)]
    for path in sorted(room.rglob("*.py")):
        if path.name != "__init__.py":
            said += _module(path)
    return "\n\n".join(filter(None, said)) + "\n"


def _module(path: Path) -> Iterator[str]:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield _title(name.removeprefix("synthembed."), 1)
    yield f".. py:module:: {name}"
    yield _text(ast.get_docstring(tree))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield _entry(node)


def _entry(node: ast.FunctionDef | ast.ClassDef, inside: str = "") -> str:
    """One function or class with its docstring; of a class its public methods below it."""
    kind = "class" if isinstance(node, ast.ClassDef) else "method" if inside else "function"
    lines = [f".. py:{kind}:: {node.name}{_signature(node)}", ""]
    options = {ast.unparse(d) for d in node.decorator_list}
    if kind == "method":
        lines[1:1] = [f"   :{o}:" for o in ("classmethod", "staticmethod") if o in options]
    lines += _indented(_text(ast.get_docstring(node)))
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            public = isinstance(child, ast.FunctionDef) and not child.name.startswith("_")
            if public and ast.get_docstring(child):
                lines += ["", *_indented(_entry(child, node.name))]
    return "\n".join(lines)


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.FunctionDef):
        arguments = ast.unparse(node.args)
        arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({arguments}){result}".replace("\\", "\\\\")
    fields = [c for c in node.body if isinstance(c, ast.AnnAssign)]
    plain = any("dataclass" in ast.unparse(d) for d in node.decorator_list)
    if not plain or not fields:
        return ""
    return "(" + ", ".join(f"{ast.unparse(c.target)}: {ast.unparse(c.annotation)}" for c in fields) + ")"


def _indented(text: str) -> list[str]:
    return [f"   {line}" if line else "" for line in text.splitlines()]


def _text(docstring: str | None) -> str:
    """A docstring's words with what reStructuredText would take for its own signs escaped; lines that are
    indented below others stay as they are."""
    if not docstring:
        return ""
    parts = re.split(r"(``.*?``)", docstring, flags=re.DOTALL)
    plain = (
        f"``{' '.join(p.strip('`').split())}``" if n % 2 else re.sub(r"([*|`\\]|(?<=\w)_\b)", r"\\\1", p)
        for n, p in enumerate(parts)
    )
    return "\n".join(_block(list("".join(plain).splitlines())))


def _block(lines: list[str]) -> Iterator[str]:
    """Indented lines after a line of text become a literal block of lines, as they were meant."""
    inside = False
    for line in lines:
        deep = line.startswith("  ")
        if deep and not inside:
            yield ""
        if inside and line and not deep:
            yield ""
        inside = deep or (inside and not line)
        yield f"| {line.strip()}" if deep else line


def _title(text: str, level: int) -> str:
    return f"{text}\n{RULE[level] * len(text)}"
