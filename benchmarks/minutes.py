"""Where the minutes of a run go, by stage and kind of work: ``python -m benchmarks.minutes [RUN]``.

Reads what ``synthembed run --where`` left in the stages' folders of a run (laptop); draws
docs/minutes.png, writes the table of docs/minutes.md between its marks and results/bench/run.json. Runs
nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from synthembed.ground import run_folders
from synthembed.ground.files import ROOT, read_json, write_json
from synthembed.report import rendering
from synthembed.report.figures import OURS, PALETTE, STYLE
from synthembed.stages import sampling as kinds
from synthembed.stages.record import STAGES

from benchmarks.measure import row

PROCESS = "start and end of the process"
# Work of the model in blue and orange; what has no part in it in grey. Neighbours differ in lightness too.
COLOURS = {
    kinds.PRODUCTS: OURS, kinds.ATTENTION: PALETTE[5], kinds.MODEL: PALETTE[4], kinds.BACKWARD: PALETTE[1],
    kinds.TOKENISING: PALETTE[3], kinds.FILES: "#7A4B6A", kinds.MTEB: PALETTE[2], kinds.OWN: "#F0E442",
    kinds.IMPORTS: "#555555", PROCESS: "#999999", kinds.WAITING: "#CCCCCC",
}  # fmt: skip
SHORTEST = 0.035  # of the axis: a narrower part has no room for its number


def parts_of(folder: Path) -> dict[str, float]:
    """Seconds of a stage by kind, which add up to its time from the runner's start to its end."""
    found = read_json(folder / "where.json")
    parts = dict.fromkeys(COLOURS, 0.0) | found["seconds"]
    parts[PROCESS] = found.get("start_s", 0.0) + found.get("end_s", 0.0)
    return parts


def read(run: Path) -> dict[str, dict[str, float]]:
    """Stage → seconds by kind, in the stages' order; those that were not watched are left out."""
    return {s: parts_of(run / s) for s in STAGES if (run / s / "where.json").exists()}


def draw(stages: dict[str, dict[str, float]], title: str):
    """A bar a stage, of its kinds of work, in minutes."""
    whole = {stage: sum(parts.values()) / 60 for stage, parts in stages.items()}
    with matplotlib.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 0.42 * len(stages) + 1.9))
        widest = max(whole.values())
        digits = 1 if widest > 3 else 2
        for y, (stage, parts) in enumerate(stages.items()):
            left = 0.0
            for kind, colour in COLOURS.items():
                width = parts[kind] / 60
                axis.barh(y, width, 0.72, left, color=colour, edgecolor="white", linewidth=0.4)
                if width > SHORTEST * widest:
                    dark = colour in (OURS, "#7A4B6A", "#555555", PALETTE[1], PALETTE[2])
                    axis.text(
                        left + width / 2, y, f"{width:.{digits}f}", ha="center",
                        va="center", fontsize=7.5, color="white" if dark else "black",
                    )  # fmt: skip
                left += width
            axis.text(whole[stage], y, f"  {whole[stage]:.{digits}f}", va="center", weight="bold")
        axis.set_yticks(range(len(stages)), list(stages))
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set(xlabel="minutes", xlim=(0, 1.07 * widest), title=title)
        seen = [kind for kind in COLOURS if any(parts[kind] >= 0.5 for parts in stages.values())]
        handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[kind]) for kind in seen]
        figure.legend(handles, seen, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4)
        figure.tight_layout()
    return figure


def table(stages: dict[str, dict[str, float]]) -> str:
    """Minutes by kind of work (a row) and stage, with sums and shares; Markdown."""
    frame = pd.DataFrame(stages).loc[list(COLOURS)] / 60
    frame["all"] = frame.sum(axis=1)
    frame = frame[frame["all"] > 0]
    frame.loc["all"] = frame.sum()
    rows = frame.map("{:.2f}".format)
    rows["share"] = (100 * frame["all"] / frame["all"]["all"]).map("{:.0f} %".format)
    return rendering.markdown(rows.reset_index(names="minutes"))


def described(run: Path, stages: dict[str, dict[str, float]]) -> str:
    """What was measured, on what, when and by which commands."""
    records = [read_json(run / stage / "stage.json") for stage in stages]
    last, watched = records[-1], [read_json(run / stage / "where.json") for stage in stages]
    on = last["machine"]
    cost = sum(w["cost_s"] for w in watched) / max(1e-9, sum(w["wall_s"] for w in watched))
    return (
        f"Run `{run.name}` (profile {last['profile']}) of {min(r['started'] for r in records)[:10]}: {on['system']} "
        f"{on['processor']}, {on['cores']} cores, {on['gpu'] or 'no GPU'}; Python {last['versions']['python']}, "
        f"torch {last['versions']['torch']}. Looking took {100 * cost:.2f} % of the time. Made by "
        f"`synthembed run --profile {last['profile']} --where` and `python -m benchmarks.minutes {run.name}`.\n"
    )


def as_row(run: Path, stages: dict[str, dict[str, float]]) -> dict:
    """The run as a row of results/bench: its minutes, and those of each stage."""
    minutes = {stage: sum(parts.values()) / 60 for stage, parts in stages.items()}
    told = ", ".join(f"{stage} {value:.1f}" for stage, value in minutes.items())
    return row(f"run/{run.name}", sum(minutes.values()), None, "", "minutes", told)


def write(run: Path, docs: Path) -> str:
    """The figure and the page's part between the marks; returns that part."""
    stages = read(run)
    if not stages:
        raise SystemExit(f"no where.json in {run.name}: synthembed run --where writes them")
    figure = draw(stages, f"Where the minutes of the {run.name} run go, by stage and kind of work")
    figure.savefig(docs / "minutes.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    said = f"{described(run, stages)}\n{table(stages)}"
    page = docs / "minutes.md"
    head, mark, rest = page.read_text(encoding="utf-8").partition("<!-- minutes -->\n")
    end = rest.index("<!-- /minutes -->")
    page.write_text(f"{head}{mark}{said}{rest[end:]}", encoding="utf-8")
    return said


if __name__ == "__main__":
    of = run_folders.find((sys.argv[1:] or ["laptop"])[0])
    print(write(of, ROOT / "docs"))
    (ROOT / "results" / "bench").mkdir(exist_ok=True)
    write_json(ROOT / "results" / "bench" / "run.json", [as_row(of, read(of))])
