"""What the results of notebooks 01 to 03 say, as one Markdown paragraph each.

Every sentence follows from the numbers that are handed in, says what chance would give, and how far a number
would move by chance alone: intervals are of 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev

from synthembed.evaluation.intervals import wilson
from synthembed.profile.taxonomy import PAPER_COUNTS

OF_SIX = 2.64  # standard errors that the farthest of six stays within in 95 % of cases (Bonferroni)


def replies(usage: dict, requests: int) -> str:
    """What came of ``requests``; ``usage`` is the content of usage.json."""
    came = sum(model["replies"] for model in usage["models"].values())
    unusable, missing = sum(usage["unusable"].values()), requests - came
    said = f"**What did we see?** {came:,} of {requests:,} requests have a reply"
    said += (
        f"; {missing:,} have none ({_listed(usage['failures'])})." if missing else ", so nothing is missing."
    )
    if unusable:
        said += f" {unusable:,} replies ({unusable / came:.1%}) are not what was asked for: {_listed(usage['unusable'])}."
    else:
        said += " Every one of them is the JSON that was asked for."
    if came:
        low, high = wilson(100 * unusable / came, came)
        said += (
            f" Another corpus of this size, made in the same way, may have between {low:.1f} and {high:.1f} % that "
            "cannot be used (95 % interval)."
        )
    silent = sum(model["replies_without_usage"] for model in usage["models"].values())
    if silent:
        said += (
            f" {silent:,} replies report no tokens, as recorded ones do, so the bill says nothing about them."
        )
    return said


def funnel(outcome: dict) -> str:
    """What the filters dropped; ``outcome`` is the content of drops.json."""
    kept, dropped = outcome["kept"], outcome["dropped"]
    total = kept + dropped
    said = f"**What did we see?** {kept:,} of {total:,} replies became examples"
    if not dropped:
        return said + "; no filter found anything to drop, so filtering moves no number of this run."
    low, high = wilson(100 * dropped / total, total)
    reason, count = max(outcome["reasons"].items(), key=lambda pair: pair[1])
    said += (
        f", {dropped:,} were dropped ({100 * dropped / total:.1f} %, 95 % interval {low:.1f} to {high:.1f}), most of "
        f'them ({count:,}) for "{reason}".'
    )
    if dropped < 0.01 * total:
        said += (
            " That is less than one in a hundred: whatever training does with this corpus, filtering has little part "
            "in it."
        )
    return said


def shares(statistics: dict) -> str:
    """How Figure 2's task types came out beside the paper's; the content of statistics.json."""
    n, total = statistics["examples"], sum(PAPER_COUNTS.values())
    far = []
    for family, thousands in PAPER_COUNTS.items():
        expected = thousands / total
        error = 100 * (expected * (1 - expected) / n) ** 0.5
        distance = statistics["families"].get(family, 0.0) - 100 * expected
        far.append((abs(distance) / error, family, distance, OF_SIX * error))
    ratio, family, distance, allowed = max(far)
    said = (
        f"**What did we see?** The families were drawn {n:,} times by the paper's weights, so their shares must lie "
        f"near them. The one that is farthest off is {family}, {abs(distance):.1f} points "
        f"{'above' if distance > 0 else 'below'} its weight; chance alone keeps it within {allowed:.1f} points, and "
        "all others within their own range, in 19 of 20 corpora of this size. "
    )
    said += (
        "All six agree with the paper as far as this many draws can tell."
        if ratio <= OF_SIX
        else "That is more than chance explains: a filter, replies that failed or a setting may have moved it."
    )
    return said + (
        f" In the paper the largest family has {100 * max(PAPER_COUNTS.values()) / total:.0f} %; six families drawn "
        "evenly would have 17 % each."
    )


def repetition(statistics: dict) -> str:
    """How much the generator repeats itself; the content of statistics.json."""
    share, uses = statistics["distinct_2_english_queries"], statistics["most_uses_of_an_instruction"]
    return (
        f"**What did we see?** Of all pairs of neighbouring words in the English queries {share:.0%} are distinct. The "
        "number falls as a corpus grows, since common pairs come back, so it is only to be compared at equal size. "
        f"There are {statistics['instructions']:,} brainstormed instructions, of which none serves more than {uses} "
        "examples."
    )


def contamination(overlap: dict) -> str:
    """What training and evaluation have in common; the content of contamination.json."""
    types = overlap["types"]
    found = {kind: counts["exact"] + counts["near"] for kind, counts in types.items()}
    serious = sum(n for kind, n in found.items() if kind != "low-entropy")
    texts = overlap["evaluation"]["texts"]
    said = f"**What did we see?** {texts:,} evaluation texts were looked for. "
    if not sum(found.values()):
        return said + "None is among the training texts."
    said += (
        "Found, by the kinds of the table: "
        + ", ".join(f"{n:,} {kind}" for kind, n in found.items() if n)
        + ". "
    )
    said += (
        f"{serious:,} of these could give an answer away, and their tasks' scores are to be read with that in mind."
        if serious
        else "Texts of low entropy are single words and labels that any corpus holds; nothing that was found gives an "
        "answer away."
    )
    return said


def tiny_training(history: list[dict], documents: int) -> str:
    """A few steps on one and the same batch; each with ``loss`` and ``accuracy`` (of 1)."""
    first, last = history[0], history[-1]
    moved = "fell" if last["loss"] < first["loss"] else "did not fall"
    return (
        f"**What did we see?** In {len(history)} steps on one batch the loss {moved}: {first['loss']:.2f} at first, "
        f"{last['loss']:.2f} at last. The right document was first for {first['accuracy']:.0%} of the queries and then "
        f"for {last['accuracy']:.0%}; guessing gives {1 / documents:.0%}. This is memory and not skill: the same "
        f"{documents} pairs were seen {len(history)} times, and no other text was looked at."
    )


def training(log: list[dict], batch_size: int, hard_negatives: bool, epochs: float) -> str:
    """What the lines of log.jsonl say: loss, accuracy in the batch, and the gradient's norm. ``epochs`` is how
    often each example was seen."""
    part = max(1, len(log) // 5)
    first, last = log[:part], log[-part:]
    start, end = (fmean(line["loss"] for line in some) for some in (first, last))
    noise = stdev([line["loss"] for line in last]) if part > 3 else None  # of fewer it says nothing
    documents = batch_size * (2 if hard_negatives else 1)
    said = (
        f"**What did we see?** The loss went from {start:.2f} (mean of the first {_steps(part)}) to {end:.2f} (of the "
        f"last {part})"
    )
    if noise is not None:
        said += f"; from batch to batch it varies by {noise:.2f} there"
        if abs(start - end) < 2 * noise:
            said += ", so that the change is not clearly more than noise"
    else:
        said += "; these are too few steps to tell how much of it is noise"
    right = [fmean(line["accuracy"] for line in some) for some in (first, last)]
    said += (
        f". The right document was first among at most {documents} in {right[0]:.0%} of the queries, and in "
        f"{right[1]:.0%} at the end; guessing gives {1 / documents:.1%} or a little more."
    )
    if "gradient_norm" in log[0]:
        norms = [fmean(line["gradient_norm"] for line in some) for some in (first, last)]
        said += f" The gradient's norm was {norms[0]:.1f} and then {norms[1]:.1f}."
    said += (
        " Every batch was new to the model, so this is no memory;"
        if epochs <= 1
        else f" The examples were seen {epochs:.1f} times, so part of this may be memory;"
    )
    return said + " what it is worth, notebook 04 measures."


def in_batch(rows: list[dict], queries: int, unseen: bool) -> str:
    """The search within a batch before and after training: rows with ``among``, and ``before`` and ``after`` in
    per cent of ``queries`` searches."""
    row = rows[-1]
    (low, high), (least, most) = (wilson(row[when], queries) for when in ("before", "after"))
    chance = 100 / row["among"]
    said = (
        f"**What did we see?** Among {row['among']} documents guessing is right in {chance:.0f} % of the cases. The base "
        f"was in {row['before']:.0f} % (95 % interval {low:.0f} to {high:.0f}), the trained model in {row['after']:.0f} % "
        f"({least:.0f} to {most:.0f}). "
    )
    said += (
        f"The intervals do not overlap: training made it {'better' if least > high else 'worse'}. "
        if least > high or low > most
        else f"The intervals overlap: {queries} queries do not tell the two apart. "
    )
    if not low > chance:
        said += "The base is not told from a guess. "
    return said + (
        "These pairs were in no batch of the training."
        if unseen
        else "These pairs were trained on, so part of it may be memory."
    )


def _steps(count: int) -> str:
    return "step" if count == 1 else f"{count} steps"


def _listed(counts: dict) -> str:
    pairs: Iterable = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {n:,}" for name, n in pairs) or "no reason is known"
