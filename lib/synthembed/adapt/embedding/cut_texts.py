"""How many texts are longer than what the model reads of them, or in signs that it does not know, and what to do about
it: a word has three tokens in some languages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthembed.adapt.embedding.prompts import Prompted
from synthembed.adapt.reading.passages import Passage
from synthembed.corpus.example import Example
from synthembed.profile.settings import Train

MANY = 0.1  # of the passages: so many that something should be changed
WHOLE = 1 << 30  # tokens: nothing is cut


def lengths(encoder: Prompted, texts: Sequence[str], instruction: str = "") -> np.ndarray:
    """Tokens of each text under its prompt, (texts,), bos and eos included, uncut."""
    rows = encoder.backbone.contract.ids(encoder.prompted(texts, instruction), WHOLE)
    return np.array([len(row) for row in rows], int)


def unknown(encoder: Prompted, texts: Sequence[str]) -> int:
    """How many texts are, half or more, in signs that the tokenizer does not know: an English one has one token for
    all words of another script, and so their vectors are nearly one."""
    contract = encoder.backbone.contract
    none = contract.tokenizer.unk_token_id
    if none in (None, contract.bos, contract.eos) or not texts:
        return 0
    rows = contract.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return sum(2 * row.count(none) >= len(row) > 0 for row in rows)


def told(
    passages: Sequence[Passage], examples: Sequence[Example], encoder: Prompted, settings: Train, words: int
) -> list[str]:
    """One line for what the model does not know, one for what training cuts, and one for what searching cuts; none
    where there is nothing of it.

    Training reads ``settings``' lengths, searching the model's own. ``words`` are those of a passage.
    """
    of = {
        "passages": lengths(encoder, [p.text for p in passages]),
        "queries": lengths(encoder, [e.query for e in examples], "query"),
        "hard negatives": lengths(encoder, [e.negative for e in examples if e.negative]),
    }
    read = encoder.max_length
    trained = settings.document_length, settings.max_length
    usual = float(np.quantile(of["passages"], 0.95)) if len(passages) else 0.0
    lines = []
    if strange := unknown(encoder, [p.text for p in passages]):
        lines.append(
            f"in signs that the start model does not know, so that no search tells them apart: {strange:,} of "
            f"{len(passages):,} passages: choose another, such as --start embedded:me5-small-4bit"
        )
    if cut := _counted(of, {"passages": trained[0], "hard negatives": trained[0], "queries": trained[1]}):
        lines.append(f"longer than what is trained on, and cut there: {cut}")
        if (of["passages"] > trained[0]).sum() > MANY * len(passages):
            key = "document_max_length" if settings.document_length != settings.max_length else "max_length"
            wanted = min(read, -(-int(usual) // 32) * 32)
            longer = f"--set train.{key}={wanted} (slower), or " if wanted > trained[0] else ""
            lines[-1] += f": {longer}{_shorter(words, trained[0], usual)}"
    if cut := _counted(of, {"passages": read, "queries": read}):
        lines.append(f"longer than what the model reads, so that nothing behind is found: {cut}")
        lines[-1] += f": {_shorter(words, read, usual)}" if (of["passages"] > read).any() else ""
    return lines


def _counted(of: dict[str, np.ndarray], most: dict[str, int]) -> str:
    cut = {kind: int((of[kind] > longest).sum()) for kind, longest in most.items()}
    return ", ".join(
        f"{count:,} of {len(of[kind]):,} {kind} (above {most[kind]} tokens)"
        for kind, count in cut.items()
        if count
    )


def _shorter(words: int, most: int, usual: float) -> str:
    return (
        f"--words {max(20, int(words * most / max(usual, most)) // 10 * 10)} (other passages, asked for anew)"
    )
