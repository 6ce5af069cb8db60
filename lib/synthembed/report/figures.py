"""Figures in one style: colour-blind safe, readable in print, PNG and SVG. Reads results only."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from synthembed import paper

# A notebook's backend turns interactive when it is loaded. Loaded inside rc_context it would be set back
# at the context's end, and only the first figure of a notebook would be shown.
plt.switch_backend(matplotlib.get_backend())

# A page shows a figure some 8 inches wide: a wider one would be scaled down, its text with it.
WIDEST = 8  # inches
# Okabe and Ito's palette: told apart by readers with any common colour vision, and in grey.
PAPER, OURS = "#999999", "#0072B2"
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"]
STYLE = {
    "figure.dpi": 110, "savefig.dpi": 160, "savefig.bbox": "tight", "font.size": 9, "font.family": "DejaVu Sans",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "axes.axisbelow": True, "legend.frameon": False, "svg.hashsalt": "synthembed",
}  # fmt: skip


def save(figure, folder: Path, name: str) -> None:
    """PNG and SVG, without dates and with ids made from what is drawn, so that equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):  # the salt of a file's ids counts when it is written
        # "tight", or what tight_layout leaves behind, would draw each file once more to measure it.
        figure.set_layout_engine(None)
        around = figure.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
        figure.savefig(folder / f"{name}.png", metadata={"Software": None}, bbox_inches=around)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, bbox_inches=around)


def figure2(statistics: dict):
    """Figure 2: task types and languages, the paper beside ours, in per cent of examples."""
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(WIDEST, 4.2), width_ratios=[1, 1.4])
        for axis, row, key, title in (
            (axes[0], "task types", "families", "Task types"),
            (axes[1], "languages", "languages", "Languages"),
        ):
            published = {c.column: c.value for c in paper.cells("figure2") if c.row == row}
            total = sum(published.values())  # task types are printed in thousands
            published = {name: 100 * value / total for name, value in published.items()}
            ours = statistics[key]
            names = sorted(published, key=published.get, reverse=True)
            y = range(len(names))
            axis.barh([i - 0.2 for i in y], [published[n] for n in names], 0.38, color=PAPER, label="paper")
            axis.barh([i + 0.2 for i in y], [ours.get(n, 0) for n in names], 0.38, color=OURS, label="ours")
            axis.set_yticks(list(y), names)
            axis.invert_yaxis()
            axis.grid(axis="y", visible=False)
            axis.set(title=title, xlabel="per cent of examples")
        axes[0].legend(loc="lower right")
        figure.tight_layout()
    return figure


def drop_funnel(steps: list[tuple[str, int]]):
    """How many replies each step dropped, those aside that dropped none; ``steps`` as analysis.funnel gives them."""
    first, left = steps[0][1], steps[-1][1]
    lost = [(name.removeprefix("without: "), before - after)
            for (_, before), (name, after) in pairwise(steps) if after < before]  # fmt: skip
    lost = [("not what was asked for" if name == "valid" else name, n) for name, n in lost]
    with matplotlib.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 0.32 * len(lost) + 1.1))
        axis.barh(range(len(lost)), [n for _, n in lost], 0.7, color=OURS)
        for y, (_, n) in enumerate(lost):
            axis.text(n, y, f" {n:,} ({n / first:.1%})", va="center")
        axis.set_yticks(range(len(lost)), [name for name, _ in lost])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set(xlabel="replies dropped", xlim=(0, 1.25 * max([1, *(n for _, n in lost)])))
        axis.set_title(f"{left:,} of {first:,} replies became examples", loc="left")
        figure.tight_layout()
    return figure


def loss_curve(log: list[dict]):
    """Training loss, in-batch accuracy, the gradient's norm and the learning rate per step, two in a row."""
    with matplotlib.rc_context(STYLE):
        panels = {"loss": "InfoNCE loss", "accuracy": "in-batch accuracy", "gradient_norm": "gradient norm",
                  "lr": "learning rate"}  # fmt: skip
        panels = {key: title for key, title in panels.items() if all(key in line for line in log)}
        lines = (len(panels) + 1) // 2
        figure, axes = plt.subplots(lines, 2, figsize=(WIDEST, 2.4 * lines), squeeze=False)
        steps = [line["step"] for line in log]
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, (key, title) in zip(axes.flat, panels.items(), strict=False):
            axis.plot(steps, [line[key] for line in log], color=OURS, linewidth=1.2)
            axis.set(title=title, xlabel="step")
            axis.set_ylim(bottom=0)
        figure.tight_layout()
    return figure


def similarities(cosines, shares):
    """A batch's cosines (queries, documents), and each document's share in its query's loss, on a scale of
    logarithms: below a thousandth all are white."""
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(1, 2, figsize=(WIDEST, 2.9))
        drawn = axes[0].imshow(cosines, cmap="Blues", aspect="auto")
        axes[0].set(title="cosine", ylabel="query", xlabel="document: positives, then hard negatives")
        figure.colorbar(drawn, ax=axes[0])
        scale = matplotlib.colors.LogNorm(1e-3, 1)
        drawn = axes[1].imshow(shares.clip(1e-3), cmap="Blues", aspect="auto", norm=scale)
        axes[1].set(title="share in the loss", xlabel="document: positives, then hard negatives")
        figure.colorbar(drawn, ax=axes[1])
        figure.tight_layout()
    return figure


def memory_by_batch(
    budget: dict[int, float], everything: dict[int, float], measured: str = "peak memory, GB"
):
    """Memory in GB by batch size: at one budget of kept graphs, and with every graph kept."""
    with matplotlib.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.5, 3))
        for values, color, label in (
            (everything, PAPER, "every graph kept (plain backward)"),
            (budget, OURS, "one budget (gradient caching)"),
        ):
            axis.plot(list(values), list(values.values()), marker="o", color=color, label=label)
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(budget), [f"{b:,}" for b in budget])
        axis.set(xlabel="batch size, examples", ylabel=measured)
        axis.set_ylim(bottom=0)
        axis.legend()
        figure.tight_layout()
    return figure


def hero(lines: list, names: dict[str, str], title: str):
    """Base → trained by category (words.hero.lines): ends of a bar with 95 % intervals, chance as a dotted
    tick, every peer as a line down the categories. The axis is the whole scale, from chance or 0 to 100.

    ``names`` has the readers' names of "base", "trained" and the peers.
    """
    with matplotlib.rc_context(STYLE | {"font.size": 10}):
        figure, axis = plt.subplots(figsize=(5.4, 0.37 * len(lines) + 1.4))
        y = range(len(lines))
        peers = list(dict.fromkeys(p for line in lines for p in line.peers))
        for n, peer in enumerate(peers):
            places = [
                (line.peers.get(peer, float("nan")), i + s)
                for i, line in enumerate(lines)
                for s in (-0.5, 0.5)
            ]
            axis.plot(*zip(*places, strict=True), color=PALETTE[n + 1], linewidth=1.4, label=names.get(peer, peer),
                      linestyle=("-", "--", ":", "-.")[n % 4], alpha=0.9)  # fmt: skip
        for i, line in enumerate(lines):
            axis.plot(
                [line.base, line.trained], [i, i], color=OURS, linewidth=5, alpha=0.25, solid_capstyle="butt"
            )
            for value, half in ((line.base, line.half_base), (line.trained, line.half_trained)):
                if half is not None:
                    axis.plot(
                        [value - half, value + half],
                        [i, i],
                        color="black",
                        linewidth=1.2,
                        marker="|",
                        zorder=4,
                    )
            if line.chance is not None:
                axis.plot([line.chance] * 2, [i - 0.32, i + 0.32], color="black", linestyle=":", linewidth=1.3,
                          label="random vectors (chance)" if i == 0 else None)  # fmt: skip
        base, after = names.get("base", "base"), names.get("trained", "trained")
        for values, fill, label in (
            ([line.base for line in lines], "white", base), ([line.trained for line in lines], OURS, after)
        ):  # fmt: skip
            axis.scatter(
                values, list(y), s=42, color=fill, edgecolors=OURS, linewidths=1.5, zorder=5, label=label
            )
        axis.set_yticks(list(y), [f"{line.name} ({line.tasks})" for line in lines])
        axis.set(
            xlim=(min(0, *(line.chance or 0 for line in lines), *(line.base for line in lines)) - 2, 102)
        )
        axis.set_ylim(len(lines) - 0.5, -0.5)
        axis.axhline(0.5, color="#BBBBBB", linewidth=0.8)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("score, per cent")
        axis.set_title(title, fontsize=10, loc="left", x=-0.42)
        axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(-0.45, -1.3 / len(lines)), ncols=2)
    return figure


def category_bars(averages: dict[str, dict[str, float]], columns: list[str]):
    """Category scores of several systems side by side, from the lowest score (chance may be below 0) to 100."""
    lowest = min((v for values in averages.values() for v in values.values()), default=0)
    with matplotlib.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(WIDEST, 3.4))
        width = 0.8 / max(1, len(averages))
        for number, (system, values) in enumerate(averages.items()):
            have = [(i, values[c]) for i, c in enumerate(columns) if c in values]  # no score is no bar of 0
            places = [i + (number - (len(averages) - 1) / 2) * width for i, _ in have]
            heights = [v for _, v in have]
            axis.bar(places, heights, width * 0.92, label=system, color=PALETTE[number % len(PALETTE)])
        axis.set_xticks(range(len(columns)), columns)
        axis.grid(axis="x", visible=False)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set(ylabel="score, per cent", ylim=(min(0, lowest - 3), 100))
        axis.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        figure.tight_layout()
    return figure


def deltas(rows: list[dict]):
    """Table 5 as changes from the default: the paper's on the left, ours on the right under the names of what
    ran, each on its own benchmark and both on one linear scale.

    Ours carry their 95 % interval if it was measured; those within noise, or of one seed, are pale.
    """
    y = list(range(len(rows)))
    ends = [0.0] + [
        r[k] for r in rows for k in ("our_delta", "paper_delta", "low", "high") if r.get(k) is not None
    ]
    pad = 0.06 * (max(ends) - min(ends)) or 1
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDEST, 0.42 * len(rows) + 1.4), sharex=True)
        left.barh(y, [r["paper_delta"] or 0 for r in rows], 0.5, color=PAPER)
        for i, row in enumerate(rows):
            noise = bool(row.get("within_noise"))
            right.barh(i, row["our_delta"], 0.5, color=PALETTE[5] if noise else OURS)
            if row.get("low") is not None:
                right.plot([row["low"], row["high"]], [i] * 2, color="black", linewidth=1, marker="|")
        for axis, names, title in (
            (left, [r["row"] for r in rows], "paper: Mistral-7B, MTEB"),
            (right, [r.get("ran") or r["row"] for r in rows], "here: what ran, on this run's benchmark"),
        ):
            axis.set_yticks(y, names)
            axis.invert_yaxis()
            axis.grid(axis="y", visible=False)
            axis.axvline(0, color="black", linewidth=0.8)
            axis.set(xlabel="change of the average, points", xlim=(min(ends) - pad, max(ends) + pad))
            axis.set_title(title, fontsize=9)
        named = [(PAPER, "paper"), (OURS, "here")]
        if any(r.get("within_noise") for r in rows):
            named.append((PALETTE[5], "here, within noise or one seed"))
        _legend_below(figure, named)
    return figure


def _legend_below(figure, named: list[tuple[str, str]]) -> None:
    """A legend of coloured squares under the axes, where it hides nothing."""
    squares = [plt.Rectangle((0, 0), 1, 1, color=color) for color, _ in named]
    height = 0.28 / figure.get_figheight()
    figure.legend(squares, [name for _, name in named], loc="lower center", ncols=len(named))
    figure.tight_layout(rect=(0, height, 1, 1))


def figure3(ours: dict[str, dict[str, dict[str, float]]], names: dict[str, str] | None = None):
    """Figure 3: scores without and with contrastive pre-training, the paper's models above and ours
    below, each on its own benchmark; above the bars the gain.

    ``ours`` is model → kind → column → score with the paper's names of models and kinds, ``names`` what
    our stand-ins for its models are called.
    """

    published = {
        model: {kind: bars[kind] for kind in bars if kind != "delta"}
        for model, bars in paper.published()["figure3"]["series"].items()
    }
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(WIDEST, 5.2), sharey="row")
        for line, (source, series, colors) in zip(
            axes, (("paper", published, ("#C8C8C8", PAPER)), ("ours", ours, (PALETTE[5], OURS))), strict=True
        ):
            for axis, model in zip(line, published, strict=True):
                _bars_with_gains(axis, series.get(model), colors)
                ours_called = f"{names[model]} (stand-in for {model})" if names and model in names else model
                axis.set_title(
                    f"{source}: {ours_called if source == 'ours' else model}", fontsize=9, wrap=True
                )
            line[0].set_ylabel("score, per cent")
        _legend_below(
            figure,
            [("#C8C8C8", "paper, original"), (PAPER, "paper, pre-trained"), (PALETTE[5], "ours, original"),
             (OURS, "ours, pre-trained")],
        )  # fmt: skip
    return figure


def _bars_with_gains(axis, kinds: dict[str, dict[str, float]] | None, colors: tuple[str, str]) -> None:
    axis.set_ylim(0, 100)
    axis.grid(axis="x", visible=False)
    if not kinds:
        axis.set_xticks([])
        axis.text(0.5, 0.5, "not run", ha="center", va="center", transform=axis.transAxes)
        return
    before, after = kinds["original"], kinds["w/ cont. pre-train"]
    for n, column in enumerate(before):
        for place, value, color in (
            (n - 0.2, before[column], colors[0]),
            (n + 0.2, after[column], colors[1]),
        ):
            axis.bar(place, value, 0.38, color=color)
        axis.text(
            n, max(before[column], after[column]) + 2, f"{after[column] - before[column]:+z.1f}", ha="center"
        )
    axis.set_xticks(range(len(before)), list(before))


def figure5(rows: list[dict], published: dict | None = None):
    """Figure 5: passkey accuracy by length; ours with 95 % intervals, and the paper's curves beside if given."""
    ours: dict[str, list] = {}
    for row in rows:
        bounds = [row[k] for k in ("low", "high") if k in row]
        ours.setdefault(row["variant"], []).append((row["length"], row["accuracy"], *bounds))
    curves = {name: tuple(zip(*points, strict=True)) for name, points in ours.items()}
    name = "ours"
    if rows:
        same = "the same " if rows[0].get("candidates_per") == "length" else ""
        name += f", {rows[0]['queries']} queries × {same}{rows[0]['candidates']} candidates"
    series = [(curves, name)]
    if published:
        series_of_paper = {k: (published["x_context_length"], v) for k, v in published["series"].items()}
        series.insert(0, (series_of_paper, "paper (read off the chart)"))
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(series), figsize=(WIDEST / 2 * len(series), 4.4), sharey=True, squeeze=False
        )
        for axis, (named, title) in zip(axes[0], series, strict=True):
            for n, (name, (x, y, *bounds)) in enumerate(named.items()):
                shift = 1.12 ** (n - (len(named) - 1) / 2) if bounds else 1  # bars beside one another
                x, style = [v * shift for v in x], {"color": PALETTE[n % len(PALETTE)], "linewidth": 1.3}
                axis.plot(x, y, marker="osD^v<"[n % 6], markersize=4, label=_powers(name), **style)
                if bounds:
                    axis.vlines(x, *bounds, alpha=0.45, **style)
            if named is curves and rows:
                axis.axhline(100 / rows[0]["candidates"], color=PAPER, linestyle=":", label="chance")
            lengths = sorted({v for values in named.values() for v in values[0]})
            axis.set_xscale("log", base=2)
            axis.set_xticks(lengths, [f"{v // 1024}k" if v >= 1024 else str(v) for v in lengths])
            axis.minorticks_off()
            axis.set(title=title, xlabel="context length, tokens", ylim=(-4, 104))
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
        axes[0][0].set_ylabel("top-1 accuracy, per cent")
        figure.tight_layout()
    return figure


def _powers(name: str) -> str:
    return re.sub(r"10\^(\d+)", r"$10^{\1}$", name)


def prefix_cache(prefix: list[str], texts: list[list[str]]):
    """Which token looks at which, for texts under one instruction: what is the same for all of them
    (computed once) and what is each text's own."""
    shared, rows = len(prefix), [prefix + text for text in texts]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(1, len(rows), figsize=(min(WIDEST, 3.9 * len(rows)), 4.2), squeeze=False)
        for axis, tokens in zip(axes[0], rows, strict=True):
            for i in range(len(tokens)):
                for j in range(i + 1):
                    color = PAPER if i < shared else PALETTE[5] if j < shared else OURS
                    axis.add_patch(plt.Rectangle((j, i), 0.92, 0.92, color=color))
            axis.axhline(shared - 0.04, color="black", linewidth=1)
            axis.set(xlim=(0, len(tokens)), ylim=(len(tokens), 0), aspect="equal", xlabel="looks at")
            for ticks, labels in ((axis.set_xticks, 90), (axis.set_yticks, 0)):
                ticks([n + 0.46 for n in range(len(tokens))], tokens, rotation=labels)
            axis.tick_params(length=0)
        axes[0][0].set_ylabel("token")
        named = [
            (PAPER, "prefix: once for all texts"),
            (PALETTE[5], "text reads kept keys and values"),
            (OURS, "text reads itself"),
        ]
        figure.legend(
            [plt.Rectangle((0, 0), 1, 1, color=c) for c, _ in named],
            [n for _, n in named],
            loc="lower center",
            ncols=3,
        )
        figure.tight_layout(rect=(0, 0.1, 1, 1))
    return figure
