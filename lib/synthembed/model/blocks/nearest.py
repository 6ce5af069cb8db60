"""The nearest of any number of vectors, exactly and in bounded memory: one block after the other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional as F

SCORES = 1 << 26  # numbers of a score matrix that are held at a time, 256 MB


@torch.inference_mode()
def nearest(
    queries: np.ndarray,
    blocks: Iterable[np.ndarray],
    k: int,
    device: torch.device | str = "cpu",
    start: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` vectors of the highest cosine to each query: cosines and positions, each (queries, up to k).

    ``queries`` (queries, dim), ``blocks`` (rows, dim) one after the other, counted from ``start`` on. Highest
    first; of equal cosines the earlier position first, at the cut too, so that neither blocks nor machines
    move a result.
    """
    wanted = F.normalize(torch.as_tensor(queries, dtype=torch.float32, device=device), dim=-1)
    best = wanted.new_empty((len(wanted), 0))
    places = torch.empty((len(wanted), 0), dtype=torch.long, device=device)
    for block in blocks:
        vectors = F.normalize(torch.as_tensor(np.asarray(block, np.float32), device=device), dim=-1)
        step = max(1, SCORES // max(1, len(vectors)))
        found = [_top(part @ vectors.T, k) for part in wanted.split(step)]
        cosines, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
        best, places = _first(torch.cat([best, cosines], 1), torch.cat([places, rows + start], 1), k)
        start += len(vectors)
    return best.cpu().numpy(), places.cpu().numpy()


def merged(found: Iterable[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """One answer from those of parts of a corpus, in the order of the parts."""
    values, places = zip(*found, strict=True)
    best, order = _first(
        torch.as_tensor(np.concatenate(values, 1)), torch.as_tensor(np.concatenate(places, 1)), k
    )
    return best.numpy(), order.numpy()


def _first(values: torch.Tensor, places: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest ``k`` of candidates whose equals stand in the order of their places."""
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :k], places.gather(1, order)[:, :k]


def _top(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest ``k`` of each row and where they stand, in the order of their places.

    topk takes any of equals. One more is looked at: where it equals the last, the row is sorted whole.
    """
    k = min(k, scores.shape[1])
    values, rows = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if values.shape[1] > k:
        tied = (values[:, k - 1] == values[:, k]).nonzero().flatten()
        values, rows = values[:, :k].contiguous(), rows[:, :k].contiguous()
        for some in tied.split(64):
            highest, order = scores[some].sort(dim=1, descending=True, stable=True)
            values[some], rows[some] = highest[:, :k], order[:, :k]
    rows, order = rows.sort(dim=1)
    return values.gather(1, order), rows
