"""Figures that explain and report nothing: topics on a map, RoPE's turns, what a sliding window shows."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from synthembed.report.figures import PALETTE, STYLE, WIDEST


def topic_maps(maps: dict[str, list[list[float]]], topics: list[str]):
    """Texts in two dimensions, a panel for each system, two in a row; colour and marker say a text's topic."""
    names, lines = sorted(set(topics)), (len(maps) + 1) // 2
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(lines, 2, figsize=(WIDEST, 3 * lines + 0.5), squeeze=False)
        for axis in axes.flat[len(maps) :]:
            axis.set_axis_off()
        for axis, (system, points) in zip(axes.flat, maps.items(), strict=False):
            x, y = np.asarray(points).T
            for n, name in enumerate(names):
                of = [i for i, topic in enumerate(topics) if topic == name]
                style = {"color": PALETTE[n % len(PALETTE)], "marker": "osD^v<>P"[n % 8]}
                axis.scatter(x[of], y[of], s=14, alpha=0.75, linewidths=0, label=name, **style)
            axis.set(title=system, xticks=[], yticks=[])
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=4)
        figure.tight_layout(rect=(0, 0.5 / figure.get_figheight(), 1, 1))
    return figure


def turns(bases: list[float], pairs: int, longest: int, known: int):
    """RoPE by base: the cosine of the angle that a distance adds to each pair of dimensions, distances up to
    ``longest``. Stripes are turns; what is one colour up to the line at ``known`` has not turned once there."""
    distances = np.unique(np.geomspace(1, longest, 400).astype(int))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(
            1,
            len(bases),
            figsize=(min(WIDEST, 3.2 * len(bases)), 3),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, base in zip(axes[0], bases, strict=True):
            speeds = base ** (-np.arange(pairs) / pairs)
            drawn = axis.pcolormesh(
                distances,
                np.arange(pairs),
                np.cos(np.outer(speeds, distances)),
                cmap="RdBu",
                vmin=-1,
                vmax=1,
                rasterized=True,
            )
            axis.axvline(known, color="black", linewidth=1, linestyle=":")
            axis.set_xscale("log", base=2)
            axis.set(title=f"base {base:,.0f}", xlabel="distance, tokens", xlim=(1, longest))
        axes[0][0].set_ylabel("pair of dimensions")
        figure.colorbar(drawn, ax=axes[0], label="cosine of the angle")
    return figure


def masks(seen: dict[str, np.ndarray]):
    """Which token sees which, a panel for each (tokens × tokens, true where it does)."""
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(1, len(seen), figsize=(min(WIDEST, 2.6 * len(seen)), 2.6), squeeze=False)
        for axis, (name, mask) in zip(axes[0], seen.items(), strict=True):
            axis.imshow(mask, cmap="Blues", vmin=0, vmax=1.4)
            axis.set(title=name, xlabel="knows of token")
        axes[0][0].set_ylabel("token")
        figure.tight_layout()
    return figure
