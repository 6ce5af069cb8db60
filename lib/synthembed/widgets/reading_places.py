"""Where a vector is read: the tokens of a text, each as dark as its share in the vector (Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets

from synthembed.ground.console import counted
from synthembed.widgets.explorer import Explorer

POOLINGS = ("last", "mean", "weighted-mean")
BLUE = "0,114,178"


def shares(count: int, pooling: str) -> list[float]:
    """The share of each of ``count`` tokens in a pooled vector; they sum to 1."""
    weights = {
        "last": [0.0] * (count - 1) + [1.0],
        "mean": [1.0] * count,
        "weighted-mean": list(range(1, count + 1)),
    }[pooling]
    return [weight / sum(weights) for weight in weights]


def reading_places(rows: dict[str, tuple[Sequence[str], str]]) -> str:
    """HTML of several readings, one a row: label -> (tokens, pooling)."""
    made = "".join(
        f'<tr><td style="text-align:right;padding:4px 10px;white-space:nowrap">{escape(label)}</td>'
        f'<td style="text-align:left;padding:4px 0">{_boxes(tokens, pooling)}</td></tr>'
        for label, (tokens, pooling) in rows.items()
    )
    return f'<table style="border:0"><tbody>{made}</tbody></table>'


def _boxes(tokens: Sequence[str], pooling: str) -> str:
    found = shares(len(tokens), pooling)
    largest = max(found)
    return "".join(
        f'<span dir="auto" title="{100 * share:.1f} %" style="display:inline-block;margin:2px;padding:2px 6px;'
        f"border:1px solid rgba({BLUE},.5);border-radius:4px;background:rgba({BLUE},{0.85 * share / largest:.2f});"
        f'color:{"#fff" if share > 0.6 * largest else "inherit"};font-family:monospace">{escape(token)}</span>'
        for token, share in zip(tokens, found, strict=True)
    )


def tokens(
    tokens_of: Callable[[str], Sequence[str]], text: str, pooling: str = "last", with_eos: bool = True
) -> Explorer:
    """A text as the model reads it, and where its vector comes from; the arguments after ``tokens_of`` are the
    controls' first values. ``tokens_of`` maps a text to its tokens, bos and eos among them."""
    controls = [
        ipywidgets.Textarea(text, description="text", continuous_update=True, layout={"width": "34em"}),
        ipywidgets.Dropdown(options=POOLINGS, value=pooling, description="pooling"),
        ipywidgets.Checkbox(with_eos, description="eos is there", indent=False),
    ]

    def draw(text: str, pooling: str, with_eos: bool) -> str:
        read = list(tokens_of(text))
        kept = read if with_eos else read[:-1]
        if not kept:
            return "<p>Nothing is left to read.</p>"
        share = shares(len(kept), pooling)
        words = max(1, len(text.split()))
        told = f"{counted(len(kept), 'token')} for {counted(words, 'word')}; the last token has {share[-1]:.0%} of the vector."
        if not with_eos:
            told += " Without eos the library refuses these ids."
        return f"<p>{told}</p>" + reading_places({pooling: (kept, pooling)})

    return Explorer(controls, draw)
