"""Tables with verdicts: the paper beside this run. Reads results only, touches no model."""

from __future__ import annotations

import html
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader

from . import paper
from .provenance import read_json, write_json
from .scores import COLUMNS, TABLE1, by_system

SYSTEM_NAMES = {
    "base": "untouched base model",
    "trained": "trained on synthetic data only",
    "bm25": "BM25",
    "minilm": "all-MiniLM-L6-v2",
}


class Results:
    """What a run has written so far; every reader copes with a stage that has not run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.statistics = read_json(folder / "02_analyze" / "statistics.json")
        self.evaluation = read_json(folder / "04_evaluate" / "scores.json", {"rows": []})["rows"]
        self.ablations = read_json(folder / "05_ablations" / "scores.json", {"rows": []})
        self.passkey = read_json(folder / "06_long_context" / "scores.json", {"passkey": []})["passkey"]
        log = folder / "03_train" / "log.jsonl"
        self.log = [json.loads(x) for x in log.read_text().splitlines()] if log.exists() else []

    def stage(self, name: str) -> dict:
        return read_json(self.folder / name / "stage.json", {})


def ours(results: Results) -> dict[tuple[str, str, str], tuple[float, str, str]]:
    """(artefact, row, column) → (our value, benchmark, stage) for everything this run produced."""
    found: dict[tuple[str, str, str], tuple[float, str, str]] = {}
    benchmark = _benchmark(results.evaluation)
    trained = by_system(results.evaluation).get("trained", {})
    for column in COLUMNS:
        if column in trained:
            found["table1", "w/ synthetic data only", column] = (trained[column], benchmark, "04_evaluate")
    rows = results.ablations["rows"]
    fills = results.ablations.get("fills", {})
    names = {system: filled["table5"] for system, filled in fills.items() if "table5" in filled}
    for system, values in by_system(rows).items():
        # The paper's Table 5 trains on synthetic data and MS-MARCO; these rows on synthetic data only.
        benchmark = f"{_benchmark(rows)}, trained without MS-MARCO"
        for column in COLUMNS:
            if column in values and system in names:
                found["table5", names[system], column] = (values[column], benchmark, "05_ablations")
    default = next((s for s, row in names.items() if row == "E5_mistral-7b (default)"), None)
    for system, row in names.items():
        at, base = found.get(("table5", row, "Avg")), found.get(("table5", names.get(default), "Avg"))
        if at and base and system != default:
            found["table5", row, "delta_avg"] = (at[0] - base[0], at[1], at[2])
    if results.statistics:
        for row, key in (("task types", "families"), ("languages", "languages")):
            for column, share in results.statistics[key].items():
                size = "500k examples" if results.statistics["examples"] >= 450_000 else "small corpus"
                thousands = share * results.statistics["examples"] / 1e5  # as the paper prints task types
                value = thousands if key == "families" else share
                found["figure2", row, column] = (value, size, "02_analyze")
    for point in results.passkey:
        if point["paper_row"]:
            key = ("figure5", point["paper_row"], str(point["length"]))
            found[key] = (point["accuracy"], "passkey, own data", "06_long_context")
    return found


def _benchmark(rows: list[dict]) -> str:
    return "+".join(sorted({r["benchmark"] for r in rows})) or "none"


# Benchmarks on which a number of ours may be set beside the paper's.
COMPARABLE = {"MTEB(eng, v1)", "500k examples"}


def verdicts(results: Results) -> list[dict]:
    """One entry for every published number (contract of verdicts.json)."""
    produced, entries = ours(results), []
    for artefact in paper.TITLES:
        for cell in paper.cells(artefact):
            value, benchmark, stage = produced.get((artefact, cell.row, cell.column), (None, None, None))
            comparable = benchmark in COMPARABLE
            record = results.stage(stage) if stage else {}
            entries.append(
                {
                    "id": cell.id,
                    "artefact": artefact,
                    "paper": cell.value,
                    "ours": None if value is None else round(value, 2),
                    "comparable": comparable,
                    "tolerance": cell.tolerance,
                    "verdict": verdict(cell, value, comparable),
                    "run": None if value is None else {
                        "benchmark": benchmark,
                        "commit": record.get("commit"),
                        "profile_hash": record.get("profile_hash"),
                        "seeds": record.get("seeds", []),
                        "n_seeds": len(record.get("seeds", [])),
                        "std": None,
                    },
                }
            )  # fmt: skip
    return entries


def verdict(cell: paper.Cell, value: float | None, comparable: bool) -> str:
    """match: within the tolerance; close: within a point; differs; or why there is none."""
    if value is None:
        return "not run"
    if not comparable:
        return "not comparable"
    distance = abs(value - cell.value)
    return "match" if distance <= cell.tolerance + 1e-9 else "close" if distance <= 1 else "differs"


def by_system_of_equal_tasks(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Averages by system; a system without a score in some category has no ``Avg`` to compare."""
    found = by_system(rows)
    categories = {c for values in found.values() for c in values if c in TABLE1}
    return {
        system: {c: v for c, v in values.items() if c != "Avg" or categories <= set(values)}
        for system, values in found.items()
    }


def table1(results: Results) -> pd.DataFrame:
    """The paper's rows as published, then this run's systems on its own benchmark."""
    rows = [
        {"source": "paper, MTEB (56 datasets)", "system": row, **values}
        for row, values in paper.table("table1")["rows"].items()
    ]
    heading = f"this run, {_benchmark(results.evaluation)} benchmark"
    for system, values in by_system_of_equal_tasks(results.evaluation).items():
        rows.append({"source": heading, "system": SYSTEM_NAMES.get(system, system), **values})
    return pd.DataFrame(rows).reindex(columns=["source", "system", *COLUMNS])


def table5(results: Results) -> pd.DataFrame:
    """Ablations: the paper's average and delta beside ours, with this run's default as the origin."""
    produced = ours(results)
    records = []
    for row, values in paper.table("table5")["rows"].items():
        mine = {c: produced.get(("table5", row, c), (np.nan,))[0] for c in [*COLUMNS, "delta_avg"]}
        records.append(
            {
                "row": row,
                "paper Avg": values["Avg"],
                "paper delta": values["delta_avg"],
                **{f"ours {c}": mine[c] for c in COLUMNS},
                "ours delta": mine["delta_avg"],
            }
        )
    return pd.DataFrame(records)


def table5_deltas(results: Results) -> list[dict]:
    frame = table5(results)
    frame = frame[frame["ours delta"].notna()]
    return [
        {"row": r["row"], "paper_delta": r["paper delta"], "our_delta": r["ours delta"]}
        for _, r in frame.iterrows()
    ]


def write_table(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """CSV, Markdown, LaTeX and HTML of one table, one decimal."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.2f")
    (folder / f"{name}.md").write_text(markdown(frame), encoding="utf-8")
    (folder / f"{name}.html").write_text(to_html(frame), encoding="utf-8")
    (folder / f"{name}.tex").write_text(latex(frame), encoding="utf-8")


def _shown(value) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def markdown(frame: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(_shown(v) for v in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def to_html(frame: pd.DataFrame) -> str:
    """An escaped HTML table; numbers carry a class, so that a page can align them."""
    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in frame.columns)
    body = ""
    for row in frame.itertuples(index=False):
        cells = "".join(
            f'<td class="{"n" if isinstance(v, float) else "t"}">{html.escape(_shown(v))}</td>' for v in row
        )
        body += f"<tr>{cells}</tr>\n"
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def latex(frame: pd.DataFrame) -> str:
    special = str.maketrans({"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#"})
    form = "".join("r" if pd.api.types.is_numeric_dtype(kind) else "l" for kind in frame.dtypes)
    lines = [r"\begin{tabular}{" + form + "}", r"\toprule"]
    lines.append(" & ".join(str(c).translate(special) for c in frame.columns) + r" \\")
    lines.append(r"\midrule")
    lines += [
        " & ".join(_shown(v).translate(special) for v in row) + r" \\"
        for row in frame.itertuples(index=False)
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def summary(entries: list[dict]) -> pd.DataFrame:
    """Verdicts counted per artefact."""
    kinds = ["match", "close", "differs", "not comparable", "not run"]
    counted = {a: Counter(e["verdict"] for e in entries if e["artefact"] == a) for a in paper.TITLES}
    return pd.DataFrame(
        [
            {"artefact": a, "what": paper.TITLES[a], **{k: counts.get(k, 0) for k in kinds}}
            for a, counts in counted.items()
        ]
    )


def readme_table(results: Results) -> str:
    """The README's results: systems by category on the run's own benchmark, and where they came from."""
    frame = pd.DataFrame(
        {
            "system": SYSTEM_NAMES.get(system, system),
            **{c: values.get(c, np.nan) for c in [*COLUMNS, "Bitext"]},
        }
        for system, values in by_system_of_equal_tasks(results.evaluation).items()
    )
    record = results.stage("04_evaluate")
    note = (
        f"Profile `{record['profile']}` ({record['profile_hash']}), benchmark: {_benchmark(results.evaluation)}, "
        f"mteb {record['versions']['mteb']}, seed {record['seeds'][0]}. In the paper, on MTEB's 56 datasets, "
        "training on synthetic data alone gives an average of 63.1: not comparable with this table."
    )
    return f"{markdown(frame)}\n{note}\n"


def write_readme(results: Results, readme: Path) -> None:
    """Put ``readme_table`` between the README's two result marks."""
    text = readme.read_text(encoding="utf-8")
    head, mark, rest = text.partition("-->\n")
    end = rest.index("<!-- /results -->")
    readme.write_text(head + mark + readme_table(results) + rest[end:], encoding="utf-8")


def build(folder: Path, out: Path) -> list[dict]:
    """Everything of 07_report from the run's results: tables, figures, verdicts.json, report.html."""
    from . import figures

    results = Results(folder)
    entries = verdicts(results)
    tables = {"table1": table1(results), "table5": table5(results), "verdicts": summary(entries)}
    for name, frame in tables.items():
        write_table(frame, out / "tables", name)
    drawn = []
    if results.statistics:
        drawn.append(("figure2", figures.figure2(results.statistics)))
    if results.log:
        drawn.append(("training", figures.loss_curve(results.log)))
    if results.evaluation:
        drawn.append(("table1", figures.category_bars(by_system_of_equal_tasks(results.evaluation), COLUMNS)))
    if deltas := table5_deltas(results):
        drawn.append(("table5", figures.deltas(deltas)))
    if results.passkey:
        drawn.append(("figure5", figures.figure5(results.passkey, paper.published()["figure5"])))
    for name, figure in drawn:
        figures.save(figure, out / "figures", name)
    write_json(out / "verdicts.json", entries)
    page = Environment(loader=PackageLoader("synthembed", "templates"), autoescape=True)
    text = page.get_template("report.html.jinja").render(
        run=folder.name,
        stages={p.parent.name: read_json(p) for p in sorted(folder.glob("*/stage.json"))},
        tables={k: to_html(v) for k, v in tables.items()},
        figures={n: (out / "figures" / f"{n}.svg").read_text(encoding="utf-8") for n, _ in drawn},
        benchmark=_benchmark(results.evaluation),
        statistics=results.statistics,
    )
    (out / "report.html").write_text(text, encoding="utf-8")
    return entries
