"""A batch's cosines under another temperature, or with fewer examples: what the loss makes of them (Sec. 3.2)."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import ipywidgets
import numpy as np
from matplotlib import image

from synthembed.widgets.explorer import Explorer

SIZES = (2, 4, 8, 16, 32)


def shares(cosines: np.ndarray, temperature: float) -> np.ndarray:
    """(queries, documents): each document's share in its query's sum of exponentials; rows sum to 1."""
    logits = cosines / temperature
    grown = np.exp(logits - logits.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def measured(cosines: np.ndarray, temperature: float) -> dict[str, float]:
    """Loss, accuracy and chance of a square batch, and how many negatives the mean query is pushed from: the
    exponential of the entropy of the pushes, 1 if a single one gets all of it."""
    share = shares(cosines, temperature)
    n = len(share)
    top = (cosines / temperature).max(1)
    loss = np.log(np.exp(cosines / temperature - top[:, None]).sum(1)) + top - np.diag(cosines) / temperature
    others = share * (1 - np.eye(n))
    push = others / np.maximum(others.sum(1, keepdims=True), 1e-30)
    entropy = -(push * np.log(np.maximum(push, 1e-30))).sum(1)
    return {
        "loss": float(loss.mean()),
        "accuracy": float((cosines.argmax(1) == np.arange(n)).mean()),
        "chance": 1 / n,
        "log n": math.log(n),
        "negatives pushed": float(np.exp(entropy).mean()),
    }


def picture(matrix: np.ndarray, width: int = 300) -> str:
    """A matrix as an image, dark where it is large; a cell is a square."""
    low, high = float(matrix.min()), float(matrix.max())
    scaled = (matrix - low) / (high - low or 1)
    file = io.BytesIO()
    image.imsave(file, scaled, cmap="Blues", vmin=0, vmax=1, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<img alt="{matrix.shape[0]} by {matrix.shape[1]} matrix, from {low:.2f} to {high:.2f}" width="{width}" '
        f'style="image-rendering:pixelated" src="data:image/png;base64,{data}">'
    )


def batch(
    cosines: np.ndarray,
    queries: Sequence[str],
    documents: Sequence[str],
    temperature: float = 0.02,
    batch_size: int = 32,
    query: int = 0,
) -> Explorer:
    """Temperature and batch size on a real batch; the last three arguments are the controls' first values.

    ``cosines`` (n, n): rows are queries, columns documents, in the same order; ``query`` is the row that is looked
    at. A batch of 8 is the first 8.
    """
    cosines = np.asarray(cosines, np.float64)
    sizes = [size for size in SIZES if size <= len(cosines)]
    controls = [
        ipywidgets.FloatLogSlider(
            value=temperature,
            min=-2,
            max=0,
            step=0.05,
            description="temperature",
            readout_format=".3f",
            style={"description_width": "initial"},
        ),
        ipywidgets.SelectionSlider(options=sizes, value=min(batch_size, sizes[-1]), description="batch size"),
        ipywidgets.IntSlider(value=query, min=0, max=len(cosines) - 1, description="query"),
    ]

    def draw(temperature: float, size: int, query: int) -> str:
        some, query = cosines[:size, :size], min(query, size - 1)
        share, found = shares(some, temperature), measured(some, temperature)
        told = (
            f"loss {found['loss']:.2f} (knowing nothing: {found['log n']:.2f}) · right {found['accuracy']:.0%} "
            f"(chance {found['chance']:.0%}) · a query is pushed from {found['negatives pushed']:.1f} of "
            f"{size - 1} negatives"
        )
        images = "".join(
            f'<figure style="margin:0 16px 0 0"><figcaption>{title}</figcaption>{picture(matrix)}</figure>'
            for title, matrix in (("cosines", some), ("shares in the loss", share))
        )
        nearest = sorted(range(size), key=lambda n: -share[query, n])[:3]
        rows = "".join(
            f'<tr><td style="text-align:right">{share[query, n]:.1%}</td><td>{"positive" if n == query else "negative"}'
            f'</td><td style="text-align:left" dir="auto">{escape(documents[n][:110])}</td></tr>'
            for n in nearest
        )
        asked = escape(queries[query][-160:])
        return (
            f'<p>{told}</p><div style="display:flex">{images}</div><p dir="auto"><b>query {query}</b>: {asked}</p>'
            f"<table><tbody>{rows}</tbody></table>"
        )

    return Explorer(controls, draw)
