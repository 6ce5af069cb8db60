"""Figures in words, from the numbers that they are drawn from: for readers who hear a page."""

from __future__ import annotations

from synthembed import paper
from synthembed.report.words.hero import Line


def hero(lines: list[Line], names: dict[str, str]) -> str:
    said = [
        f"{line.name} ({_tasks(line.tasks)}): {line.base:.1f} to {line.trained:.1f}"
        + (f", 95 % ± {line.half_trained:.1f}" if line.half_trained is not None else "")
        + (f", chance {line.chance:.1f}" if line.chance is not None else "")
        + "".join(f", {names.get(p, p)} {v:.1f}" for p, v in line.peers.items())
        for line in lines
    ]
    return f"Scores in per cent from {names['base']} to {names['trained']}. {'; '.join(said)}."


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def category_bars(averages: dict[str, dict[str, float]]) -> str:
    said = [f"{s}: " + ", ".join(f"{c} {v:.1f}" for c, v in values.items()) for s, values in averages.items()]
    return f"Scores in per cent by category. {'; '.join(said)}."


def deltas(rows: list[dict]) -> str:
    said = [
        f"{r.get('ran') or r['row']}: {r['our_delta']:+.1f}"
        + (f" (95 % {r['low']:+.1f} to {r['high']:+.1f})" if r.get("low") is not None else "")
        + (f", the paper's {r['row']} {r['paper_delta']:+.1f}" if r.get("paper_delta") is not None else "")
        for r in rows
    ]
    return f"Changes of the average in points, each on its own benchmark. {'; '.join(said)}."


def figure2(statistics: dict) -> str:
    parts = []
    for row, key in (("task types", "families"), ("languages", "languages")):
        published = {c.column: c.value for c in paper.cells("figure2") if c.row == row}
        total = sum(published.values())
        ours = statistics.get(key, {})
        said = [
            f"{n} {100 * v / total:.0f} in the paper and {ours.get(n, 0):.0f} here"
            for n, v in published.items()
        ]
        parts.append(f"{row.capitalize()}, per cent of examples: {', '.join(said)}")
    return f"{'. '.join(parts)}."


def figure3(bars: dict[str, dict[str, dict[str, float]]], names: dict[str, str]) -> str:
    said = [
        f"{names.get(model, model)}, in the place of {model}: "
        + ", ".join(
            f"{c} {v:.1f} to {kinds['w/ cont. pre-train'][c]:.1f}" for c, v in kinds["original"].items()
        )
        for model, kinds in bars.items()
    ]
    return f"Scores without and with contrastive pre-training. {'; '.join(said)}."


def figure5(rows: list[dict]) -> str:
    by_variant: dict[str, list[str]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(f"{row['accuracy']:.0f} at {row['length']:,} tokens")
    said = [f"{variant}: {', '.join(points)}" for variant, points in by_variant.items()]
    chance = f" Chance is {100 / rows[0]['candidates']:.0f}." if rows else ""
    return f"Passkeys found, per cent, by length of the text. {'; '.join(said)}.{chance}"


def loss_curve(log: list[dict]) -> str:
    first, last = log[0], log[-1]
    return (
        f"Training from step {first['step']} to {last['step']}: loss from {first['loss']:.2f} to {last['loss']:.2f}, "
        f"in-batch accuracy from {first['accuracy']:.2f} to {last['accuracy']:.2f}, "
        f"learning rate up to {max(line['lr'] for line in log):.2g}."
    )
