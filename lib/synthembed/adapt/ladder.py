"""Whether a training helped, and if not, what to try: from symptom to action, the likeliest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthembed.adapt.measuring import Interval

BETTER, UNCERTAIN, WORSE = "better", "not told apart", "worse"

# Of a 95 % interval's width: 0.84 standard errors, below which a mean falls one time in five.
LIKELY_NOISE = 0.215
LEAST_DOCUMENTS = 5  # with held-out queries that are left; of four, all rise by chance one time in sixteen
MODELS = {"minilm": "embedded:minilm-l6", "me5-small-4bit": "embedded:me5-small-4bit"}  # as start models


class Worse(RuntimeError):
    """The model got worse on the reader's own held-out queries, and is not exported."""


@dataclass(frozen=True)
class Symptoms:
    """What is known of a run when it is judged; shares are between 0 and 1."""

    difference: Interval
    before: float  # nDCG@10 in per cent
    bm25: float
    train: int
    held_out: int
    asked: int
    dropped: int
    inconsistent: int
    epochs: float
    losses: Sequence[float]  # of the steps
    accuracies: Sequence[float]
    strays: int = 0  # queries in another language than their passages
    best: tuple[float, str] = (0.0, "")  # nDCG@10 and name of the best system that is not ours
    after: float = 100.0
    start: str = ""  # the start model


def judge(difference: Interval, documents: int = LEAST_DOCUMENTS) -> str:
    """ "better" if the interval is above 0, "worse" if the mean is below 0 by more than what one time in five is noise,
    else "not told apart", which is all that fewer than LEAST_DOCUMENTS held-out documents can say for a model."""
    if difference.mean < -LIKELY_NOISE * (difference.high - difference.low):
        return WORSE
    return BETTER if difference.low > 0 and documents >= LEAST_DOCUMENTS else UNCERTAIN


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def steps(s: Symptoms) -> list[str]:
    """The ladder: "symptom → action" for each symptom that this run shows, and last what always helps."""
    third = max(1, len(s.losses) // 3)
    early, late = _mean(s.losses[:third]), _mean(s.losses[-third:])
    found = []
    if s.held_out < 30:
        found.append(
            f"only {s.held_out} held-out queries, which cannot tell models apart → more documents, --queries 3, or "
            "--held-out 0.4"
        )
    if s.losses and late > 0.95 * early:
        found.append(
            f"the loss did not fall ({early:.2f} at first, {late:.2f} at last) → look into generated.html whether queries fit "
            "their passages; then --set train.learning_rate at a third, or three times as high"
        )
    if s.losses and _mean(s.accuracies[-third:]) < 0.2:
        found.append(
            f"at its end only {_mean(s.accuracies[-third:]):.0%} of a batch's queries find their passage: its vectors are "
            "nearly one → --set train.learning_rate at a third, and a longer --set train.warmup_steps"
        )
    if s.losses and _mean(s.accuracies[-third:]) > 0.98:
        found.append(
            "the training's queries are all told right long before its end: it learned by heart → fewer "
            f"--set train.epochs (now {s.epochs:g}), or harder negatives from a better generator"
        )
    if s.strays > 0.1 * max(1, s.asked):
        found.append(
            f"{s.strays} of {s.asked} queries are in another language than their passages → a generator that knows your "
            "language (--llm), which small models often do not"
        )
    if s.inconsistent > 0.2 * max(1, s.asked):
        found.append(
            f"{s.inconsistent} of {s.asked} queries do not find their passage → the generator writes beside the text: "
            "another LLM (--llm), or shorter passages (--words 80)"
        )
    if s.dropped - s.inconsistent - s.strays > 0.2 * max(1, s.asked):
        found.append(
            f"{s.dropped - s.inconsistent - s.strays} of {s.asked} examples were dropped by other filters → reasons and texts are in generated.html"
        )
    if s.before > 90:
        found.append(
            f"the model had {s.before:.0f} before, which leaves little to learn → keep it as it is, and export it alone "
            "(synthembed export)"
        )
    if s.best[1] in MODELS and s.best[0] > max(s.before, s.after) + 10:
        other = MODELS[s.best[1]]
        action = (
            "keep it as it is until there are more examples"
            if other == s.start
            else f"train that one: --start {other}"
        )
        found.append(
            f"{s.best[1]}, with its own prompts, has {s.best[0]:.0f} without any training → {action}"
        )
    if s.bm25 > s.before + 10:
        found.append(
            f"BM25 has {s.bm25:.0f}, more than the model before training ({s.before:.0f}) → start from a trained model (--start laptop), "
            "or search with both"
        )
    if s.train < 200:
        found.append(f"{s.train} examples are few → --queries 3, or more documents")
    found.append("none of these → --start another model, then half the learning rate and twice the batch")
    return found


def refusal(s: Symptoms) -> Worse:
    """What is raised in place of an export."""
    rungs = "\n".join(f"  {n}. {rung}" for n, rung in enumerate(steps(s), 1))
    noise = "" if s.difference.high < 0 else ", though that is within noise"
    return Worse(
        f"the model got worse on your held-out queries, by {s.difference} points of nDCG@10{noise}: it is not exported. "
        f"What to try, in this order:\n{rungs}\nThe model before training is untouched; --anyway exports what there is"
    )
