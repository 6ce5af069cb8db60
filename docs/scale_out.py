"""The paper's run with 10, 100 and 1,000 times its synthetic data: what it takes, and what gives way first.

    .venv/bin/python docs/scale_out.py        # writes the table of docs/scale-out.md anew

Tokens, operations and hours are those of `synthembed estimate`; bytes and seconds an example were measured on the
committed laptop run, whose texts are shorter, and are scaled by tokens. Nothing was run at these sizes.
"""

from __future__ import annotations

import re
from pathlib import Path

from synthembed import profile as profiles
from synthembed.generation import cost
from synthembed.stages.planning import bill, forecast, workload
from synthembed.training import gpu_cost

PAGE = Path(__file__).with_name("scale-out.md")
FACTORS = (1, 10, 100, 1000)
GPUS, KIND, A_NODE = 32, "h100", 8
MEMORY_OF_A_NODE = 1000e9  # bytes; usual for eight GPUs
# Measured on the laptop run's 2,092 examples, two cores: bytes of a reply in replies.jsonl, of an example in
# examples.jsonl and in memory, seconds in the filters of profiles/paper.yaml and in those of the laptop.
REPLY, EXAMPLE, IN_MEMORY = 1_250, 980, 1_490
EXACT_S, NEAR_S = 0.00017, 0.0067


def row(factor: int) -> dict:
    """What ``factor`` times the paper's synthetic data takes, labelled data and everything else as they were."""
    paper = profiles.load("paper")
    examples = factor * paper.generate.examples
    large = profiles.load("paper", [f"generate.examples={examples}"])
    longer = sum(workload.synthetic_tokens(paper)) / sum(workload.synthetic_tokens(profiles.load("laptop")))
    training = workload.training("03_train", large, gpu_cost.MISTRAL_7B, GPUS)
    hours = bill.machines(KIND, GPUS).hours(training)
    everyone = examples + workload.labelled_examples(paper.data)
    # the mixture is a list in every worker
    node = A_NODE * everyone * IN_MEMORY * longer
    found = cost.figures(paper)
    return {
        "synthetic examples": f"{examples / 1e6:g}M",
        "USD, batch": f"{factor * found['batch_usd'] / 1e3:,.0f}k",
        "batches of 50,000": f"{factor * found['batches']:,}",
        "replies on disk": _bytes(examples * REPLY * longer),
        "exact filters": forecast.duration(examples * EXACT_S),
        "near-duplicates too": forecast.duration(examples * NEAR_S),
        "memory of 02": _bytes(examples * IN_MEMORY * longer),
        "memory of a node's workers": _bytes(node) + (" (too much)" if node > MEMORY_OF_A_NODE else ""),
        "steps": f"{training.steps:,.0f}",
        "GPU-hours of training": f"{hours:,.0f}",
        f"on {GPUS} {KIND.upper()}": forecast.duration(hours / GPUS * 3600),
    }


def table() -> str:
    rows = [row(factor) for factor in FACTORS]
    lines = [
        f"| | {' | '.join('the paper' if f == 1 else f'{f:,} times' for f in FACTORS)} |",
        f"|---|{'---|' * len(FACTORS)}",
    ]
    return "\n".join(lines + [f"| {name} | {' | '.join(r[name] for r in rows)} |" for name in rows[0]])


def _bytes(count: float) -> str:
    return f"{count / 1e12:,.1f} TB" if count >= 1e12 else f"{count / 1e9:,.1f} GB"


def page() -> str:
    return re.sub(
        r"(<!-- scale -->\n).*(<!-- /scale -->)",
        lambda found: f"{found[1]}{table()}\n{found[2]}",
        PAGE.read_text(encoding="utf-8"),
        flags=re.S,
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
