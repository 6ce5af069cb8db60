"""InfoNCE and gradient caching (Sec. 3.2): pure functions of tensors.

Gradient caching makes a contrastive batch of any size fit: vectors of all chunks first, then the
loss and its gradient with respect to the vectors, then each chunk's backward pass alone. The
gradient is the one of the whole batch, not an average over small batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ROWS = 128  # queries whose similarities to all documents are in memory at a time


def info_nce(
    queries: torch.Tensor,
    documents: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    excluded: torch.Tensor | None = None,
    symmetric: bool = False,
) -> tuple[torch.Tensor, dict[str, float]]:
    """InfoNCE over in-batch and hard negatives, Sec. 3.2: phi = exp(cos / temperature).

    queries (q, dim) and documents (d, dim) need not be normalised; ``positives`` (q,) gives each
    query's row in ``documents``; ``excluded`` (q, d) is True on documents that are no negatives of a
    query (other known positives). ``symmetric`` averages with the loss of finding the query by its
    positive among all queries. Memory for similarities is ROWS x d, whatever q. Returns the mean
    loss and, for the log, accuracy and similarities.
    """
    queries, documents = F.normalize(queries, dim=-1), F.normalize(documents, dim=-1)
    loss, counts = 0.0, torch.zeros(4, dtype=torch.float64, device=queries.device)
    for rows in torch.arange(len(queries), device=queries.device).split(ROWS):
        part, counted = checkpoint(
            _rows_of_loss, rows, queries, documents, positives, temperature, excluded, symmetric,
            use_reentrant=False, preserve_rng_state=False,
        )  # fmt: skip
        loss, counts = loss + part, counts + counted
    right, own, others, pairs = counts.tolist()
    metrics = {
        "accuracy": right / len(queries),
        "positive_similarity": own / len(queries),
        "negative_similarity": others / pairs if pairs else float("nan"),
    }
    return loss / len(queries), metrics


def _rows_of_loss(rows, queries, documents, positives, temperature, excluded, symmetric):
    """Summed loss of some queries; right answers, sums of similarities, number of negatives."""
    cosine, own = queries[rows] @ documents.T, positives[rows]
    banned = torch.zeros_like(cosine, dtype=torch.bool) if excluded is None else excluded[rows]
    logits = (cosine / temperature).masked_fill(banned, float("-inf"))
    loss = F.cross_entropy(logits, own, reduction="sum")
    if symmetric:
        # A query that shares the positive, or for which it is a known positive, is no negative of it.
        shared = own[:, None] == positives
        if excluded is not None:
            shared |= excluded[:, own].T
        shared.scatter_(1, rows[:, None], False)
        back = (documents[own] @ queries.T / temperature).masked_fill(shared, float("-inf"))
        loss = (loss + F.cross_entropy(back, rows, reduction="sum")) / 2
    with torch.no_grad():
        negatives = ~banned.scatter(1, own[:, None], True)
        counts = torch.stack([
            (logits.argmax(1) == own).sum(), cosine.gather(1, own[:, None]).sum(dtype=torch.float64),
            (cosine * negatives).sum(dtype=torch.float64), negatives.sum(),
        ])  # fmt: skip
    return loss, counts.double()


def excluded_pairs(
    query_keys: Sequence, positive_keys: Sequence, document_keys: Sequence, positives: Sequence[int]
) -> torch.Tensor:
    """(q, d) mask: documents that are, by text, a known positive of an equal query or the query itself.

    A key identifies a text; the query's own positive is never masked.
    """
    known: dict = {}
    for query, positive in zip(query_keys, positive_keys, strict=True):
        known.setdefault(query, {query}).add(positive)
    where: dict = {}
    for column, key in enumerate(document_keys):
        where.setdefault(key, []).append(column)
    mask = torch.zeros(len(query_keys), len(document_keys), dtype=torch.bool)
    for row, query in enumerate(query_keys):
        for key in known[query]:
            mask[row, where.get(key, [])] = True
        mask[row, positives[row]] = False
    return mask


def cached_backward(
    encode: Callable[[object], torch.Tensor],
    chunks: Sequence[object],
    loss_of: Callable[[torch.Tensor], tuple[torch.Tensor, dict]],
    keep: int,
    seeds: Sequence[int] | None = None,
    gather: Callable[[torch.Tensor], tuple[torch.Tensor, int]] | None = None,
    largest: float | None = None,
) -> tuple[float, dict]:
    """Accumulate the gradient of ``loss_of(cat(encode(c) for c in chunks))``, chunk by chunk.

    ``encode`` maps a chunk to vectors (n, dim) and may be random (dropout): before each call the
    generators are seeded with the chunk's own of ``seeds``, so a second call repeats the first.
    The graphs of the first ``keep`` chunks stay in memory, so those run forward once (4N operations
    a parameter and token with a frozen base); the others run it twice (6N).

    With several workers ``gather`` maps this worker's vectors to those of all, and the number of
    rows before its own. Every worker then computes the same loss of the whole batch, so the sum of
    the workers' gradients is that of one worker with the whole batch.

    ``largest`` is for float16: all gradients are scaled by the power of two that brings the largest
    element of the vectors' gradient just under it; ``metrics["gradient_scale"]`` says which. Returns
    the loss and what ``loss_of`` measured.
    """
    if seeds is None:
        seeds = torch.randint(2**62, (len(chunks),)).tolist()
    with torch.random.fork_rng(_generators()):

        def run(number: int, with_graph: bool) -> torch.Tensor:
            torch.manual_seed(seeds[number])
            with torch.set_grad_enabled(with_graph):
                return encode(chunks[number])

        outputs = [run(n, n < keep) for n in range(len(chunks))]
        sizes = [len(o) for o in outputs]
        vectors = torch.cat([o.detach() for o in outputs])
        outputs[keep:] = []
        whole, first = gather(vectors) if gather else (vectors, 0)
        whole.requires_grad_()
        loss, metrics = loss_of(whole)
        loss.backward()
        if largest is not None:
            top = whole.grad.abs().max().item()
            metrics["gradient_scale"] = (
                2.0 ** math.floor(math.log2(largest / top)) if 0 < top < math.inf else 1.0
            )
            whole.grad *= metrics["gradient_scale"]
        gradients = whole.grad[first : first + sum(sizes)].split(sizes)
        for number, gradient in enumerate(gradients):
            output = run(number, True) if number >= keep else outputs[number]
            output.backward(gradient.to(output.dtype))
            if number < keep:
                outputs[number] = None  # with ``output`` rebound, frees the chunk's vectors
    return loss.item(), metrics


def _generators() -> list[int]:
    """GPUs whose generator ``torch.manual_seed`` touches and this process uses."""
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []
