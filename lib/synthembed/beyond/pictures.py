"""Figures of experiments. Whoever sees the picture alone can say what was varied, what was held, how sure it is."""

from __future__ import annotations

import re
import textwrap

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from synthembed.beyond import outcomes, trends
from synthembed.beyond.outcomes import Outcome
from synthembed.profile.experiment_settings import Experiment
from synthembed.report.figures import OURS, PALETTE, PAPER, STYLE

WIDTH = 118  # signs of a caption's line at a figure 7 inches wide
SCORE = "mean score of the tasks, per cent"
NO_MORE = {"layers"}  # axes that end: a base has no more layers than it has, so nothing is predicted of more


# --- the words under a figure -------------------------------------------------------------------------------


def _seeds(lines: list[Outcome], bars: str = "Bars:") -> str:
    """How many trainings there are, and what the bars are of them."""
    counts = sorted({len(line.seeds) for line in lines if line.score})
    if not counts or counts == [1]:
        return "One training a row: no interval, and no difference here is more than noise may be."
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{bars} 95 % interval of the mean (Student's t) over {many} trainings a row, that differ in seed."


def _same(lines: list[Outcome]) -> tuple[bool, bool]:
    """Whether all rows have as many examples, and as many steps."""
    shown = [line for line in lines if line.score]
    return len({line.examples for line in shown}) == 1, len({line.steps for line in shown}) == 1


def _sizes(lines: list[Outcome]) -> str:
    """What all rows share of examples and steps; where they differ, it stands with each row."""
    first, (examples, steps) = next(line for line in lines if line.score), _same(lines)
    common = [f"{first.steps:,} step{'s' * (first.steps > 1)}"] if steps and first.steps else []
    common += [f"drawn from {first.examples:,} examples"] if examples and first.examples else []
    return f"Each training: {', '.join(common)}." if common else ""


def _notes(experiment: Experiment) -> str:
    """What rows are whose names do not say it."""
    told = "; ".join(f"{row.id}, {row.note}" for row in experiment.rows if row.note)
    return f"Rows: {told}." if told else ""


def _absent(lines: list[Outcome]) -> tuple[str, ...]:
    """The rows that the figure does not show: those of too few examples with their number, and the others."""
    few = {
        line.row: found[1] for line in lines if (found := re.match(r"not run: ([\d,]+) examples", line.why))
    }
    others = [line.row for line in lines if line.why and line.row not in few]
    counted = ", ".join(f"{row} {count}" for row, count in few.items())
    return (
        f"No training, as these are too few examples: {counted}." if few else "",
        f"Not run here: {', '.join(others)}." if others else "",
    )


def _finish(figure, experiment: Experiment, tasks: set[str], lines: list[Outcome], told: tuple[str, ...]):
    """Title, and under the axes what is varied, what is held, what it was scored on, how sure it is, what lacks."""
    names = ", ".join(sorted(name.removeprefix("Embedded") for name in tasks))
    parts = [f"Varied: {experiment.varied}.", f"Held: {experiment.held}.", _sizes(lines), _notes(experiment), *told,
             f"Scored on this project's small suite ({names}); not comparable with published numbers.", *_absent(lines)]  # fmt: skip
    width = int(WIDTH * figure.get_figwidth() / 7)
    wrapped = [line for part in parts if part for line in textwrap.wrap(part, width)]
    inches = 0.148 * len(wrapped) + 0.05
    figure.set_figheight(figure.get_figheight() + inches)
    figure.suptitle(experiment.question, fontsize=10, x=0.01, ha="left")
    figure.text(0.01, 0.01, "\n".join(wrapped), fontsize=7.5, va="bottom", linespacing=1.35)
    figure.tight_layout(rect=(0, inches / figure.get_figheight(), 1, 1))
    return figure


# --- the kinds of figures -----------------------------------------------------------------------------------


def _bar(axis, place, value, color, horizontal: bool = False) -> None:
    _, low, high = value
    if low is not None:
        points = ([low, high], [place] * 2) if horizontal else ([place] * 2, [low, high])
        axis.plot(*points, color=color, linewidth=1.4, alpha=0.7, solid_capstyle="butt")


def bars(lines: list[Outcome], against: str):
    """A line for each row: every training a dot, the interval of the mean, and the difference to the reference."""
    shown = [line for line in lines if line.score]
    same = _same(lines)
    figure, axis = plt.subplots(figsize=(7, 0.4 * len(shown) + 1.0))
    for y, line in enumerate(shown):
        color = "black" if line.row == against else OURS
        _bar(axis, y, line.score, color, horizontal=True)
        axis.plot(line.seeds, [y] * len(line.seeds), "o", color=color, markersize=3.5, alpha=0.6)
        axis.plot(line.score[0], y, "|", color=color, markersize=13, markeredgewidth=2)
        axis.annotate(
            _delta(line, against), (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    axis.set_yticks(range(len(shown)), [_label(line, *same) for line in shown])
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.set(xlabel=SCORE)
    _least_span(axis, 4)
    if reference := next((line for line in shown if line.row == against), None):
        axis.axvline(reference.score[0], color=PAPER, linewidth=0.8, linestyle=":")
    told = f"Right: difference to {against!r} (black, dotted line)"
    if any(len(line.seeds) > 1 for line in shown):
        told += ", with its 95 % interval over seeds and texts; * if that leaves out 0"
    return figure, (_seeds(shown, "Dots: one training each; bars:"), told + ".")


def _least_span(axis, points: float) -> None:
    """Widen the score's axis, so that a tenth of a point does not look like a result."""
    low, high = axis.get_xlim()
    if (lacking := points - (high - low)) > 0:
        axis.set_xlim(low - lacking / 2, high + lacking / 2)


def _label(line: Outcome, same_examples: bool, same_steps: bool) -> str:
    sizes = [f"{line.examples:,} ex."] if line.examples and not same_examples else []
    sizes += [f"{line.steps:,} step{'s' * (line.steps > 1)}"] if line.steps and not same_steps else []
    return f"{line.row} ({', '.join(sizes)})" if sizes else line.row


def _delta(line: Outcome, against: str) -> str:
    if line.row == against or line.delta is None:
        return "reference" if line.row == against else ""
    mean, low, high = line.delta
    if low is None or len(line.seeds) < 2:
        return f"{mean:+.1f}"
    sure = "" if low <= 0 <= high else " *"
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{sure}"


def curve(lines: list[Outcome], x_label: str):
    """Score against what is varied, with a line in its logarithm through the rows and what it predicts."""
    shown = [line for line in lines if line.score]
    xs = [line.x for line in shown]
    figure, axis = plt.subplots(figsize=(7, 3.4))
    further = x_label not in NO_MORE
    for line in shown:
        _bar(axis, line.x, line.score, OURS)
        axis.plot([line.x] * len(line.seeds), line.seeds, "o", color=OURS, markersize=3.5, alpha=0.6)
    told = "Two rows or more are needed for a curve."
    if len(set(xs)) > 1:
        least = min(len(line.seeds) for line in shown)
        values = np.array([line.seeds[:least] for line in shown]).T
        trend = trends.fit(xs, values)
        grid = np.geomspace(min(xs), (4 if further else 1) * max(xs), 60)
        ends = [trend.at(x) for x in grid]
        axis.plot(grid, [e[0] for e in ends], color=PALETTE[1], linewidth=1.2)
        if ends[0][1] is not None:
            low, high = ([e[n] for e in ends] for n in (1, 2))
            axis.fill_between(grid, low, high, color=PALETTE[1], alpha=0.12, linewidth=0)
            margin = 6
            axis.set_ylim(values.min() - margin, values.max() + margin)
        if further:
            axis.axvline(max(xs), color=PAPER, linewidth=0.8, linestyle=":")
            axis.text(max(xs), axis.get_ylim()[0], " predicted →", fontsize=7.5, color="#555555", va="bottom")
        told = predicted(xs, values, x_label, further)
    axis.set_xscale("log", base=2)
    axis.set_xticks(xs, [f"{x:,.0f}" for x in xs])
    axis.minorticks_off()
    axis.set(xlabel=x_label, ylabel=SCORE)
    return figure, (_seeds(shown, "Dots: one training each; bars:"), told)


def predicted(xs: list[float], values: np.ndarray, x_label: str, further: bool = True) -> str:
    """In words: what a doubling gives, what the curve says of twice the largest (if there is ``further`` to go), and
    how well it foretold the largest from the others."""
    trend = trends.fit(xs, values)
    several = ", with its 95 % interval over seeds (band, brackets)" if len(values) > 1 else ""
    told = f"Line: fitted in log2 of {x_label}{several}; a doubling gives {_spoken(trend.slope, sign=True)} points"
    told += f", {2 * max(xs):,.0f} would have {_spoken(trend.at(2 * max(xs)))}." if further else "."
    if known := trends.foretold(xs, values):
        told += f" Without the largest it foretold {_spoken(known[0])} for it; measured {_spoken(known[1])}."
    return told


def _spoken(value: tuple, sign: bool = False) -> str:
    mean, low, high = value
    form = "{:+.1f}" if sign else "{:.1f}"
    ends = f" [{form.format(low)}, {form.format(high)}]" if low is not None else ""
    return form.format(mean) + ends


def heat(cells: dict[str, dict[str, tuple]], lines: list[Outcome], languages: dict[str, list[str]]):
    """Trained on × tested on; each cell with its score and half the width of its interval over seeds."""
    columns = list(dict.fromkeys(c for row in cells.values() for c in row))
    values = np.array([[row.get(c, (np.nan,))[0] for c in columns] for row in cells.values()])
    figure, axis = plt.subplots(figsize=(7, 0.5 * len(cells) + 1.4))
    centred = values - np.nanmean(values, 0)
    most = max(1.0, np.nanmax(np.abs(centred)))
    axis.grid(visible=False)
    axis.imshow(centred, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for y, row in enumerate(cells.values()):
        for x, column in enumerate(columns):
            mean, low, high = row.get(column, (np.nan, None, None))
            ends = f"\n±{(high - low) / 2:.1f}" if low is not None else ""
            dark = abs(centred[y, x]) > 0.65 * most
            axis.text(x, y, f"{mean:.1f}{ends}", ha="center", va="center", fontsize=8,
                      color="white" if dark else "black")  # fmt: skip
    axis.set_xticks(range(len(columns)), [c.replace(", ", "\n") for c in columns], fontsize=8)
    axis.set_yticks(range(len(cells)), list(cells))
    axis.set(ylabel="trained on", xlabel="tested on")
    tested = "; ".join(f"{group}: {', '.join(some)}" for group, some in languages.items())
    told = f"In a cell: mean score, per cent. Colour: above (blue) or below (red) the mean of its column. Tested on {tested}."
    return figure, (_seeds(lines, "±: half of the"), told)


def by_bytes(points: dict[tuple[str, str], list[tuple]], lines: list[Outcome]):
    """Score against bytes a stored vector: colour is the training, mark and line the precision."""
    rows, kinds = (list(dict.fromkeys(name[n] for name in points)) for n in (0, 1))
    styles, marks = ("-", "--", ":", "-."), "osD^"
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for (row, kind), some in points.items():
        color, n = PALETTE[rows.index(row) % len(PALETTE)], kinds.index(kind)
        shift = 1.03 ** (rows.index(row) - (len(rows) - 1) / 2)
        axis.plot([p[0] * shift for p in some], [p[1] for p in some], styles[n % 4], marker=marks[n % 4],
                  color=color, markersize=4, linewidth=1.1, label=f"{row}, {kind}")  # fmt: skip
        for place, *value in some:
            _bar(axis, place * shift, value, color)
    sizes = sorted({p[0] for some in points.values() for p in some})
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [f"{s:,.0f}" for s in sizes], rotation=45, fontsize=7)
    axis.minorticks_off()
    axis.set(xlabel="bytes of a stored vector", ylabel=SCORE)
    axis.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure, (_seeds(lines),)


def steps(curves: dict[str, dict[str, dict[int, tuple]]], lines: list[Outcome]):
    """Learning curves by category, one panel for each row."""
    figure, axes = plt.subplots(1, len(curves), figsize=(7, 3.4), sharey=True, squeeze=False)
    for axis, (row, categories) in zip(axes[0], curves.items(), strict=True):
        for n, (category, values) in enumerate(categories.items()):
            color = PALETTE[n % len(PALETTE)]
            axis.plot(list(values), [v[0] for v in values.values()], marker="o", markersize=3.5, color=color,
                      linewidth=1.2, label=category)  # fmt: skip
            for step, value in values.items():
                _bar(axis, step, value, color)
        places = sorted({step for values in categories.values() for step in values})
        axis.set_xticks(places, [str(p) for p in places])
        axis.set(title=row if len(curves) > 1 else "", xlabel="optimiser steps")
    axes[0][0].set_ylabel("score of the category, per cent")
    axes[0][0].legend(fontsize=7.5)
    return figure, (_seeds(lines),)


def draw(scored: dict, experiment: Experiment, dims: int = 0):
    """The figure of an experiment by its kind. None, and what to do is printed, where nothing was measured;
    rows that wait are named under the others."""
    lines = outcomes.table(scored, experiment)
    for line in lines:
        if line.why:
            print(f"{line.row}: {line.why}")
    if not any(line.score for line in lines):
        return None
    begin = f"{experiment.id}/"
    tasks = {r["task"] for r in scored["rows"] if r["system"].startswith(begin)}
    with matplotlib.rc_context(STYLE):
        figure, told = _drawn(scored, experiment, lines, dims)
        return _finish(figure, experiment, tasks, lines, told)


def _drawn(scored: dict, experiment: Experiment, lines: list[Outcome], dims: int):
    """The axes by the experiment's kind, and the sentences that say how sure they are."""
    if experiment.kind == "curve":
        return curve(lines, experiment.axis or experiment.varied)
    if experiment.kind == "heat":
        return heat(
            outcomes.transfer(scored, experiment), lines, outcomes.tested_languages(scored, experiment)
        )
    if experiment.kind == "bytes":
        return by_bytes(outcomes.by_bytes(scored, experiment, dims), lines)
    if experiment.kind == "steps":
        return steps(outcomes.learning_curves(scored, experiment), lines)
    return bars(lines, experiment.against or experiment.rows[0].id)
