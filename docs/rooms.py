"""The picture of the rooms in architecture.md, drawn from the code: ``python docs/rooms.py [OUT.svg|OUT.png]``.

Rooms and their order are those of import-linter's contract in pyproject.toml; modules are the files that
lie there; arrows are import statements of lib/synthembed, those inside functions too. Nothing is imported.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib" / "synthembed"
PICTURE = ROOT / "docs" / "rooms.svg"

LEFT, RIGHT, LANE, LINE, GAP = 0.4, 6.0, 0.3, 0.16, 0.16  # inches
CHARACTERS = 62  # in a line of a box
COLOURS = [
    "#8C8C8C", "#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#8A6BBE", "#A0522D", "#3C7A3C",
    "#B8860B", "#5F6B7A",
]  # fmt: skip
STYLE = {"svg.hashsalt": "synthembed", "svg.fonttype": "none", "font.family": ["DejaVu Sans"], "font.size": 8}


def rooms() -> list[str]:
    """The rooms from the lowest to the highest, as the contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layers = [layer.split("|") for layer in reversed(contract["layers"])]
    return [name.strip().removeprefix("synthembed.") for layer in layers for name in layer]


def purposes() -> dict[str, str]:
    """Room → what it is for, from the docstring of the package, cut between its parts to fit a line."""
    said = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    found = dict(re.findall(r"^ +(\w+) {2,}(.+?)(?: {2,}notebooks? .*)?$", said, re.MULTILINE))
    return {room: re.match(rf".{{0,{CHARACTERS}}}(?=[,:;]|$)", words)[0] for room, words in found.items()}


def modules(room: str) -> list[str]:
    """Modules of a room by name, those of a folder in it as "folder.module"."""
    files = sorted((PACKAGE / room).rglob("*.py"))
    names = [f.relative_to(PACKAGE / room).with_suffix("").parts for f in files if f.stem != "__init__"]
    return [".".join(name) for name in sorted(names, key=lambda n: (len(n), n))]


def imports() -> Counter:
    """(room, room it imports from) → how many pairs of modules one of which imports the other."""
    pairs = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        inside = file.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            pairs |= {(inside, other) for other in _imported(node)}
    known = rooms()
    between = ((a[0], b[0]) for a, b in sorted(pairs) if a[0] != b[0])
    return Counter(pair for pair in between if set(pair) <= set(known))


def _imported(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """The modules of ours that a statement imports, as paths below the package."""
    if isinstance(node, ast.Import):
        named = [tuple(alias.name.split(".")) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        named = [(*node.module.split("."), alias.name) for alias in node.names]
    else:
        return
    for top, *path in named:
        while path and not (
            (PACKAGE.joinpath(*path)).is_dir() or PACKAGE.joinpath(*path).with_suffix(".py").exists()
        ):
            path.pop()  # a function or class of a module
        if top == "synthembed" and path:
            yield tuple(path)


def width(count: int) -> float:
    """Of a line, in points."""
    return 0.5 + 0.45 * count**0.5


def draw() -> Figure:
    names, edges, about = rooms(), imports(), purposes()
    place = {name: n for n, name in enumerate(names)}
    down = {n: [(t, edges[n, t]) for t in names if place[t] < place[n] and edges[n, t]] for n in names}
    text = {n: textwrap.wrap(", ".join(modules(n)), CHARACTERS) for n in names}
    heights = {n: (max(len(text[n]), len(down[n])) + 1) * LINE + 0.18 for n in names}
    targets = [n for n in reversed(names) if any(e[1] == n and place[e[0]] > place[n] for e in edges)]
    lane = {t: RIGHT + 0.35 + LANE * n for n, t in enumerate(targets)}  # the higher, the further in
    colour = {t: COLOURS[place[t] % len(COLOURS)] for t in targets}

    high = sum(heights.values()) + GAP * (len(names) + 1)
    wide = max(lane.values()) + 0.3
    figure = Figure(figsize=(wide, high))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, wide), ylim=(0, high))
    axis.axis("off")
    figure.patch.set_facecolor("white")

    tops, y = {}, GAP
    for name in names:
        y += heights[name]
        tops[name] = y
        y += GAP
    joins: dict[str, list[tuple[float, int]]] = {t: [] for t in targets}
    for name in reversed(names):
        top, left = tops[name], LEFT
        axis.add_patch(FancyBboxPatch(
            (left, top - heights[name]), RIGHT - left, heights[name], "round,pad=0,rounding_size=0.06",
            facecolor="#F6F8FA", edgecolor="#57606A", linewidth=0.9,
        ))  # fmt: skip
        axis.text(left + 0.1, top - 0.1, name, weight="bold", fontsize=10, va="top")
        axis.text(
            left + 1.05,
            top - 0.12,
            about.get(name, ""),
            va="top",
            color="#57606A",
            fontsize=7.5,
            style="italic",
        )
        for n, line in enumerate(text[name]):
            axis.text(left + 0.1, top - 0.14 - LINE * (n + 1), line, va="top", color="#24292F", fontsize=7.5)
        for n, (target, count) in enumerate(down[name]):  # the furthest out on top: few lines cross
            at = top - 0.08 - LINE * (n + 1)
            axis.text(
                RIGHT - 0.08,
                at,
                f"{target} {count}",
                ha="right",
                va="center",
                fontsize=7,
                color=colour[target],
            )
            axis.plot(
                [RIGHT, lane[target]], [at, at], color=colour[target], linewidth=width(count), zorder=0.5
            )
            axis.plot([lane[target]], [at], marker="o", markersize=3 + width(count) / 2, color=colour[target])
            joins[target].append((at, count))
    for target, joined in joins.items():
        at, whole = tops[target] - 0.1, 0
        for (upper, count), lower in zip(joined, [*(y for y, _ in joined[1:]), at], strict=True):
            whole += count
            axis.plot(
                [lane[target]] * 2, [upper, lower], color=colour[target], linewidth=width(whole), zorder=0.6,
                solid_capstyle="round",
            )  # fmt: skip
        axis.annotate("", (RIGHT, at), (lane[target], at), arrowprops={
            "arrowstyle": "-|>", "color": colour[target], "linewidth": width(whole), "shrinkA": 0, "shrinkB": 0,
            "mutation_scale": 12,
        })  # fmt: skip
    upward = [(a, b, count) for (a, b), count in sorted(edges.items()) if place[a] < place[b]]
    for n, (name, target, count) in enumerate(upward):
        x = LEFT - 0.12 - 0.08 * n
        axis.plot(
            [LEFT, x, x],
            [tops[name] - 0.2] * 2 + [tops[target] - 0.2],
            "--",
            color="#CF222E",
            linewidth=width(count),
        )
        axis.annotate("", (LEFT, tops[target] - 0.2), (x, tops[target] - 0.2), arrowprops={
            "arrowstyle": "-|>", "color": "#CF222E", "linewidth": width(count), "shrinkA": 0, "shrinkB": 0,
        })  # fmt: skip
    return figure


def write(path: Path = PICTURE) -> None:
    """The picture as SVG, without dates and versions so that equal code gives equal files; or as PNG."""
    with matplotlib.rc_context(STYLE):
        plain = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        draw().savefig(path, dpi=130, metadata=plain)
        if path.suffix == ".svg":  # matplotlib leaves spaces at the ends of lines
            lines = path.read_text(encoding="utf-8").splitlines()
            path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:2]))
