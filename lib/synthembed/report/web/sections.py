"""The report's parts and sections as HTML, for report.html and for the site: what is found first, counts last."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader

from synthembed import paper
from synthembed.paper import reference_run
from synthembed.report import claims, tables
from synthembed.report.rendering import Table, to_html
from synthembed.report.results import ABLATIONS, Results
from synthembed.report.web import provenance
from synthembed.report.web.svg_figures import Drawn
from synthembed.report.words import effects, finding, labels

PACKAGE_DATA = ("../templates/*",)  # read here, and so part of the code's fingerprint

TEMPLATES = Path(__file__).parents[1] / "templates"
KINDS = {claims.HOLDS: "shown", claims.OPEN: "open", claims.SCALE: "scale", claims.FAILS: "contradicted"}
QUESTIONS = {
    "table1": "Does training on synthetic data make an embedding model?",
    "table2": "How does it do in other languages?",
    "table5": "Which choices matter?",
    "table7": "Does contrastive pre-training help?",
    "figure2": "What is the synthetic data made of?",
    "figure5": "How far does the context reach?",
}
CAPTIONS = {
    "figure2": "Shares of task types and languages, the paper's in grey.",
    "figure3": "Without and with contrastive pre-training, the paper's models above and what ran here below.",
    "figure5": "Passkeys found by length; ours with 95 % intervals.",
    "training": "Loss, in-batch accuracy, gradient norm (where it was kept) and learning rate by step.",
    "table1": "Every system by category, on one set of tasks.",
    "table5": "Changes of the average. The benchmarks differ, so directions compare and sizes do not.",
}


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    html: str
    sections: list[Section] = field(default_factory=list)


@cache  # it keeps what it has compiled
def templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


def opening(runs: list[Results], ledgers: list[list[dict]], drawn: Drawn) -> str:
    """The first screen: the first figure beside the finding, and claims as badges that lead to their evidence."""
    heroes = dict(drawn.get("hero", []))
    found = [
        (r.name, heroes.get(r.name), finding.sentences(r, c), len(r.stage("03_train").get("seeds", [])))
        for r, c in zip(runs, ledgers, strict=True)
    ]
    return _macro("opening")(heroes, found, _judged(runs, ledgers), len(runs) > 1)


def parts(
    runs: list[Results], ledgers: list[list[dict]], made: dict[str, Table | pd.DataFrame], drawn: Drawn,
    variance: str, beside: reference_run.Comparison | None, to_run: str,
) -> list[Section]:  # fmt: skip
    """The page below its first screen, in the order in which a reader asks."""
    several = len(runs) > 1
    found = [
        Section("claims", "Claims", _macro("claims")(_judged(runs, ledgers), several)),
        Section("effects", "Do the paper's effects appear?", _effects(runs)),
        Section("tables", "Tables", _controls(runs), [_table(n, runs, made[n], drawn, to_run) for n in paper.artefacts("table")]),
        Section("figures", "Figures", "", [_figure(n, drawn, to_run) for n in ("figure2", "figure3", "figure5", "training")]),
        Section("method-and-noise", "Method and noise", "", [
            Section("variance", "Variance", f"<p>{variance}</p>"),
            Section("method", "Where the method is shown", scrolled(_macro("method")(paper.artefacts(), {n: _shown(n, to_run) for n in paper.artefacts()}), "method")),
        ]),
        Section("made", "How the numbers were made", scrolled(
            _macro("provenance")([row for r in runs for row in provenance.rows(r)]), "stages of the run")),
    ]  # fmt: skip
    if beside:
        found.append(Section("reference", "Beside the committed run", _beside(beside)))
    found.append(Section("cite", "How to cite", cite()))
    found.append(Section("verdicts", "Verdicts, counted", _counted(made["verdicts"])))
    return found


def cite() -> str:
    """The paper and this companion in BibTeX."""
    return _macro("cite")(bibtex=provenance.BIBTEX)


def _macro(name: str):
    """A macro of parts.html.jinja as a function; what it needs by name is put into its module."""

    def call(*args, **given) -> str:
        module = templates().get_template("parts.html.jinja").make_module(given)
        return str(getattr(module, name)(*args))

    return call


def anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _judged(runs: list[Results], ledgers: list[list[dict]]) -> list[tuple[str, list[dict]]]:
    """Claims for a page: their badge, where they stand in it, and where the paper's own evidence does."""
    return [
        (results.name, [c | {
            "badge": claims.BADGES[c["verdict"]], "evidence": c["evidence"][:1].upper() + c["evidence"][1:], "kind": KINDS[c["verdict"]],
            "anchor": f"claim-{anchor(c['id'])}" + (f"-{anchor(results.name)}" if len(runs) > 1 else ""),
            "places": [(_place(a), _titled(a)) for a in c["artefacts"]],
        } for c in ledger])
        for results, ledger in zip(runs, ledgers, strict=True)
    ]  # fmt: skip


def _place(cell: str) -> str:
    artefact = cell.partition("/")[0]
    return artefact if "cells" in paper.artefacts()[artefact] else "method"


def _titled(cell: str) -> str:
    artefact, _, rest = cell.partition("/")
    named = artefact.replace("table", "Table ").replace("figure", "Figure ")
    return f"{named}, {re.sub('(?<!w)/', ', ', rest)}" if rest else named


def scrolled(text: str, name: str) -> str:
    """Each table of a page in a box of its own that scrolls, by key too, where the page is narrow."""
    number = iter(range(1, 1000))

    def box(found: re.Match) -> str:
        n = next(number)
        about = name if n == 1 else f"{name}, {n}"
        return f'<div class="scroll" tabindex="0" role="region" aria-label="Table: {about}">{found[0]}</div>'

    return re.sub(r"<table.*?</table>", box, text, flags=re.DOTALL)


def _effects(runs: list[Results]) -> str:
    said = (
        "<p class='where'>An effect is a difference of two of the paper's rows, in points. Of ours only the direction is "
        "set against the paper's: model, data and benchmark differ, and sizes do not compare. An interval is the 95 % "
        "one of other texts of the same tasks, where it was measured.</p>"
    )
    for results in runs:
        if len(runs) > 1:
            said += f"<p class='where'>{results.name}</p>"
        said += scrolled(to_html(effects.frame(results)), "effects of the paper and here")
    return said


def _controls(runs: list[Results]) -> str:
    said = ""
    for results in runs:
        if len(found := tables.controls(results)):
            seeds = len({r.get("seed") for r in results.scores[ABLATIONS].rows})
            said += f"<h3 id='controls{'-' + anchor(results.name) if len(runs) > 1 else ''}'>Who wins at one budget?</h3>"
            said += f"<p>{tables.who_wins(found, seeds)}</p>"
            said += scrolled(to_html(found.round(1)), "controls at one budget")
    return said


def _table(name: str, runs: list[Results], table: Table, drawn: Drawn, to_run: str) -> Section:
    about = paper.artefacts()[name]
    title = f"{name.replace('table', 'Table ')}: {about['title']}"
    said = f"<p class='where'>{about['section']}; {_shown(name, to_run)}. {QUESTIONS.get(name, '')}</p>"
    if name in drawn:
        said += _macro("figure")(drawn[name], CAPTIONS[name])
    published, ours = (
        replace(table, blocks=table.blocks[:1], notes=[]),
        replace(table, blocks=table.blocks[1:]),
    )
    if ours.blocks:
        said += scrolled(to_html(ours), f"{title}, here") + _made(runs, table)
        said += f"<details><summary>As published, for {labels.model_name({'model': 'Mistral-7B'})} and its peers</summary>"
        said += scrolled(to_html(published), f"{title}, as published") + "</details>"
    else:
        said += scrolled(to_html(table), title)
    if name == "table1":
        said += _distances(runs)
    return Section(name, title, said)


def _made(runs: list[Results], table: Table) -> str:
    """Under a table of ours: the stages that its numbers rest on, with all that is needed to make them again."""
    stages = dict.fromkeys(
        (results.name, stage)
        for results in runs
        for stage in results.scores
        if results.scores[stage].rows
        and any(("ablations" in b.heading) == (stage == ABLATIONS) for b in table.blocks[1:])
    )
    by_name = {r.name: r for r in runs}
    lines = dict.fromkeys(
        f"<li><b>{row['run']}/{row['stage']}</b>: <code>{row['command']}</code>, commit <code>{row['commit']}</code>, "
        f"profile {row['profile']}, seeds {row['seeds']}, {row['seconds']} s, {row['usd']} USD; {row['data']}</li>"
        for name, stage in stages
        for row in provenance.made(by_name[name], stage)
    )
    return f"<details><summary>How these numbers were made</summary><ul class='small'>{''.join(lines)}</ul></details>"


def _distances(runs: list[Results]) -> str:
    said = ""
    for results in runs:
        if len(found := tables.distances(results)):
            said += (
                "<p class='where'>How far the trained model is from each other system, with 95 % intervals. A training "
                "that was run once is called so: its ends are of that training.</p>"
            ) + scrolled(to_html(found), f"distances of the trained model, {results.name}")
    return said


def _shown(name: str, to_run: str) -> str:
    """A link to where the run's notebook shows an artefact."""
    shown = paper.artefacts()[name]["shown"]
    to = html.escape(f"{to_run}/{shown['notebook']}/{paper.anchor(name)}")
    return f'<a href="{to}">{shown["notebook"]}, “{html.escape(shown["heading"])}”</a>'


def _figure(name: str, drawn: Drawn, to_run: str) -> Section:
    about = paper.artefacts().get(name)
    title = f"{name.replace('figure', 'Figure ')}: {about['title']}" if about else "Training"
    question = ""
    if about:
        question = (
            f"<p class='where'>{about['section']}; {_shown(name, to_run)}. {QUESTIONS.get(name, '')}</p>"
        )
    return Section(name, title, question + _macro("figure")(drawn.get(name, []), CAPTIONS[name]))


def _counted(table: pd.DataFrame) -> str:
    return (
        "<p class='where'>Every published number has a verdict in verdicts.json, with the reason if it does not compare. "
        "A number counts as met only if all that the paper states of its making is the same, so a small run has none.</p>"
    ) + scrolled(to_html(table), "verdicts, counted")


def _beside(found: reference_run.Comparison) -> str:
    """A run beside its reference: a sentence, a table of the stages that differ, one of numbers."""
    rows = [row for row in found.rows() if row[reference_run.EQUAL] < row["numbers"]]
    apart = pd.DataFrame(
        {"stage": p.stage, "number": ", ".join(p.what), "reference": f"{p.reference:.6g}", "own": f"{p.own:.6g}",
         "difference": f"{p.own - p.reference:+.3g}"}
        for p in found.apart()
    )  # fmt: skip
    said = f"<p>{found.said()}</p>"
    if rows:
        said += scrolled(to_html(pd.DataFrame(rows)), "stages that differ")
    if len(apart):
        said += (
            f"<p class='where'>The largest differences:</p>{scrolled(to_html(apart), 'largest differences')}"
        )
    return said
