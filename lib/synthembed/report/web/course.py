"""A run's executed notebooks as pages of the site: figures with their content in words, tables that scroll,
widgets replaced by a link to the browser of examples."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from synthembed.evaluation.scores import COLUMNS
from synthembed.ground import notebook_links
from synthembed.ground.files import read_json
from synthembed.report.results import Results
from synthembed.report.web import svg_figures
from synthembed.report.web.sections import scrolled
from synthembed.report.words import alt_texts

WIDGET = "application/vnd.jupyter.widget-view+json"
# HTML that brings colours of its own, chosen for a light page: it stays on one in the dark theme.
COLOURED = re.compile(r"""(?:color|background|fill)\s*[:=]""")
TO_BROWSER = """<p><em>A widget of the notebook. The same, of all examples:
<a href="../examples.html">browse the examples</a></em></p>"""


def write(run: Path, folder: Path) -> list[str]:
    """The notebooks of a run, one page each; their names in the run's order."""
    folder.mkdir(parents=True, exist_ok=True)
    results, names = Results(run), []
    paths = sorted(run.glob("*/*.ipynb"))
    for path in paths:
        notebook = _linked(json.loads(path.read_text(encoding="utf-8")), {p.name for p in paths})
        (folder / path.name).write_text(
            json.dumps(prepared(notebook, results), ensure_ascii=False), encoding="utf-8"
        )
        names.append(path.stem)
    return names


def _linked(notebook: dict, there: set[str]) -> dict:
    """The notebook with links to pages of the site; of those to notebooks that this run has not the words stay."""
    link = re.compile(r"\[([^\]]*)\]\((\d\d_\w+\.ipynb)[^)]*\)")
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = notebook_links.of_source("".join(cell["source"]))
            cell["source"] = link.sub(lambda m: m[0] if m[2] in there else m[1], text).splitlines(
                keepends=True
            )
    return notebook


def prepared(notebook: dict, results: Results) -> dict:
    """The notebook as a page takes it; cells and outputs keep their order and their text."""
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        for output in cell.get("outputs", []):
            _output(output)
        if words := _words(source, results):
            cell["metadata"] = cell.get("metadata", {}) | {"mystnb": {"image": {"alt": words}}}
    return notebook


def _output(output: dict) -> None:
    data = output.get("data", {})
    shown = data.pop(WIDGET, None) and "text/html" not in data  # what an executed copy kept of it stays
    if shown:
        output["data"] = {"text/html": TO_BROWSER}
    elif "text/html" in data:
        page = re.sub(  # from the notebook to its page; a heading has another name there
            r'href="(?:[^"]*/)?(\d\d_\w+)\.ipynb(?:#[^"]*)?"', r'href="\1.html"', "".join(data["text/html"])
        )
        kinds = "report" * ("<table" in page) + " for-light" * bool(COLOURED.search(page))
        if kinds:
            page = f'<div class="{kinds.strip()}">{scrolled(page, "output of the cell")}</div>'
        data["text/html"] = page


def _words(source: str, results: Results) -> str:
    """What a cell draws, in words, from the numbers that it draws."""
    found = re.search(r"\bfigures\.(\w+)\(", source)
    if not found:
        return "A figure that the cell above draws." if re.search(r"\bplt\.|\.plot", source) else ""
    make = _makers(results).get(found[1])
    return (
        make() if make else ""
    ) or f"The figure that figures.{found[1]} draws from the values printed here."


def _makers(results: Results) -> dict[str, Callable[[], str]]:
    funnel = (read_json(results.folder / "02_analyze" / "drops.json") or {}).get("funnel", [])
    return {
        "figure2": lambda: alt_texts.figure2(results.statistics) if results.statistics else "",
        "drop_funnel": lambda: (
            f"Examples left after each filter: {', '.join(f'{step} {count:,}' for step, count in funnel)}." if funnel else ""
        ),
        "loss_curve": lambda: alt_texts.loss_curve(results.log) if results.log else "",
        "category_bars": lambda: alt_texts.category_bars(
            {s: {c: v[c] for c in COLUMNS if c in v} for s, v in svg_figures.table1_bars(results).items()}
        ),
        "deltas": lambda: alt_texts.deltas(svg_figures.table5_deltas(results)),
        "figure5": lambda: alt_texts.figure5(results.passkey),
        "prefix_cache": lambda: (
            "Which token looks at which, for two texts under one instruction: the instruction's tokens come first and "
            "are computed once, and the tokens of each text look at them and at one another."
        ),
    }  # fmt: skip
