"""Tables as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import csv
import html
import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from synthembed.report.results import Number

PEER = "†"  # after the name of a peer


@dataclass(frozen=True)
class Block:
    """Rows under one heading; a row has a group, a name and a value per column."""

    heading: str
    columns: list[str]
    rows: list[tuple[str, str, list]]


@dataclass(frozen=True)
class Table:
    title: str
    blocks: list[Block]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Table:
        """A data frame as a table of one block, its first column being the rows' names."""
        rows = [("", row[0], list(row[1:])) for row in frame.itertuples(index=False, name=None)]
        return cls("", [Block(str(frame.columns[0]), [str(c) for c in frame.columns[1:]], rows)])


# --- rendering -----------------------------------------------------------------------------------


def shown(value) -> str:
    """A value as text: one decimal, a standard deviation if there is one, a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, Number):
        return f"{value.mean:.1f}" + (f" ± {value.std:.1f}" if value.std is not None else "")
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _plain(table: Table | pd.DataFrame) -> Table:
    return Table.of(table) if isinstance(table, pd.DataFrame) else table


def _head(block: Block) -> list[str]:
    grouped = any(group for group, _, _ in block.rows)
    return [*([""] if grouped else []), block.heading, *block.columns]


def _lines(block: Block) -> list[list]:
    """Rows as lists of values; a group is named on its first row only."""
    grouped, last, lines = any(group for group, _, _ in block.rows), None, []
    for group, name, values in block.rows:
        lines.append([*([group if group != last else ""] if grouped else []), name, *values])
        last = group
    return lines


def markdown(table: Table | pd.DataFrame) -> str:
    parts = []
    for block in _plain(table).blocks:
        head = _head(block)
        lines = ["| " + " | ".join(_cell(h) for h in head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(_cell(shown(v)) for v in line) + " |" for line in _lines(block)]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *_plain(table).notes]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def to_html(table: Table | pd.DataFrame) -> str:
    """An escaped HTML table per block; numbers carry a class, so that a page can align them."""
    parts = []
    for block in _plain(table).blocks:
        lines, head = _lines(block), _head(block)
        numeric = [n >= len(head) - len(block.columns) and not any(isinstance(v, str) for v in column)
                   for n, column in enumerate(zip(*lines, strict=True))]  # fmt: skip
        kinds = ["n" if number else "t" for number in numeric or [False] * len(head)]
        heads = "".join(f'<th class="{k}">{html.escape(h)}</th>' for k, h in zip(kinds, head, strict=True))
        body = ""
        for line in lines:
            cells = (
                f'<td class="{k}">{html.escape(shown(v))}</td>' for k, v in zip(kinds, line, strict=True)
            )
            body += f"<tr>{''.join(cells)}</tr>\n"
        parts.append(f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n")
    return "".join([*parts, *(f"<p>{html.escape(n)}</p>\n" for n in _plain(table).notes)])


TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "~": r"\textasciitilde{}",
        "<": "$<$",
        ">": "$>$",
        "_": r"\_",
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "^": r"\^{}",
        "±": r"$\pm$",
        PEER: r"$^\dagger$",
        "–": "--",
    }
)


def latex(table: Table | pd.DataFrame) -> str:
    parts = []
    for block in _plain(table).blocks:
        head, rows = _head(block), _lines(block)
        names = len(head) - len(block.columns)
        numeric = [all(not isinstance(r[i], str) for r in rows) for i in range(names, len(head))]
        form = "l" * names + "".join("r" if n else "l" for n in numeric)
        lines = [
            r"\begin{tabular}{" + form + "}",
            r"\toprule",
            " & ".join(h.translate(TEX) for h in head) + r" \\",
        ]
        lines.append(r"\midrule")
        lines += [" & ".join(shown(v).translate(TEX) for v in row) + r" \\" for row in rows]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    notes = [r"\par " + n.translate(TEX) for n in _plain(table).notes]
    return "\n\n".join([*parts, *notes]) + "\n"


def to_csv(table: Table | pd.DataFrame, path: Path) -> None:
    """One line per row of every block: block, group, row, then the columns of all blocks, and the
    standard deviations that there are, two decimals."""
    blocks = _plain(table).blocks
    with open(path, "w", encoding="utf-8", newline="") as file:
        records = []
        for block in blocks:
            for group, name, values in block.rows:
                record = {"block": block.heading, "group": group, "row": name}
                for column, value in zip(block.columns, values, strict=True):
                    record[column] = value.mean if isinstance(value, Number) else value
                    if isinstance(value, Number) and value.std is not None:
                        record[f"{column} std"] = value.std
                records.append(record)
        writer = csv.DictWriter(file, list(dict.fromkeys(k for r in records for k in r)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.2f}" if isinstance(v, float) else v for k, v in r.items()} for r in records
        )


def write(table: Table | pd.DataFrame, folder: Path, name: str) -> None:
    """CSV, Markdown, LaTeX and HTML of one table."""
    folder.mkdir(parents=True, exist_ok=True)
    to_csv(table, folder / f"{name}.csv")
    (folder / f"{name}.md").write_text(markdown(table), encoding="utf-8")
    (folder / f"{name}.html").write_text(to_html(table), encoding="utf-8")
    (folder / f"{name}.tex").write_text(latex(table), encoding="utf-8")
