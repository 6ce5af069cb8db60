"""InfoNCE and gradient caching (Sec. 3.2): pure functions of tensors.

Gradient caching makes a contrastive batch of any size fit: vectors of all chunks first, then the
loss and its gradient with respect to the vectors, then each chunk's backward pass alone. The
gradient is the one of the whole batch, not an average over small batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SIMILARITIES = 2**20  # cosines computed at a time, whatever the batch


def info_nce(
    vectors: torch.Tensor,
    queries: torch.Tensor,
    documents: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    excluded: torch.Tensor | None = None,
    symmetric: bool = False,
) -> tuple[torch.Tensor, dict[str, float]]:
    """InfoNCE over in-batch and hard negatives, Sec. 3.2: phi = exp(cos / temperature).

    ``vectors`` (n, dim) of all texts need not be normalised; ``queries`` (q,) and ``documents`` (d,)
    are rows of them; ``positives`` (q,) gives each query's place in ``documents``; ``excluded`` (q, d),
    dense or sparse, on any device, is True on documents that are no negatives of a query (other known
    positives).
    ``symmetric`` averages with the loss of finding the query by its positive among all queries.

    The gradient is made along with the loss, so that beside it and ``vectors`` only a few arrays of
    SIMILARITIES numbers are in memory; the loss can be differentiated once. All is computed in the
    vectors' own precision. Returns the mean loss and, for the log, accuracy and similarities.
    """
    cosines, directions = _Cosines(vectors, temperature), 2 if symmetric else 1
    exact = torch.promote_types(vectors.dtype, torch.float32)  # not float64: Apple's GPUs have none
    loss, counts = 0.0, torch.zeros(4, dtype=exact, device=vectors.device)
    rows_at_once = max(1, SIMILARITIES // max(len(vectors), len(documents)))
    for some in torch.arange(len(queries), device=vectors.device).split(rows_at_once):
        own = positives[some]
        banned = torch.zeros(len(some), len(documents), dtype=torch.bool, device=vectors.device)
        if excluded is not None:
            banned |= _dense(excluded, 0, some)
        part, cosine = cosines.add(queries[some], documents, own, banned)
        loss, counts = loss + part, counts + _counted(cosine, own, banned).to(exact)
        if symmetric:
            banned = _no_negatives(some, positives, excluded)
            loss = loss + cosines.add(documents[own], queries, some, banned)[0]
    right, positive, others, pairs = counts.tolist()
    metrics = {
        "accuracy": right / len(queries),
        "positive_similarity": positive / len(queries),
        "negative_similarity": others / pairs if pairs else float("nan"),
    }
    sums = _WithGradient.apply(vectors, loss, cosines.whole_gradient())
    return sums / (len(queries) * directions), metrics


def _dense(mask: torch.Tensor, dimension: int, which: torch.Tensor) -> torch.Tensor:
    """Rows or columns of a mask; a sparse one stays on the CPU, where every operation on it exists."""
    return mask.index_select(dimension, which.to(mask.device)).to_dense().to(which.device)


def _no_negatives(some: torch.Tensor, positives: torch.Tensor, excluded: torch.Tensor | None) -> torch.Tensor:
    """(some, q): queries that share the positive, or for which it is a known one; not the query itself."""
    shared = positives[some, None] == positives
    if excluded is not None:
        shared |= _dense(excluded, 1, positives[some]).T
    return shared.scatter_(1, some[:, None], False)


def _counted(cosine: torch.Tensor, own: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """Right answers, sums of the positives' and the negatives' similarities, number of negatives."""
    best = cosine.masked_fill(banned, float("-inf")).argmax(1)
    negatives = ~banned.scatter(1, own[:, None], True)
    return torch.stack([
        (best == own).sum(), cosine.gather(1, own[:, None]).sum(), (cosine * negatives).sum(), negatives.sum(),
    ])  # fmt: skip


class _Cosines:
    """Cross-entropies of the cosines of vectors, some rows at a time, and their summed gradient.

    With norms a and b, d cos(u, v) / du = v / (a b) - cos u / a^2, and the same for v. The first terms
    of all pairs are summed as products; the second need one number for each vector.
    """

    def __init__(self, vectors: torch.Tensor, temperature: float):
        self.vectors, self.temperature = vectors.detach(), temperature
        self.inverse = 1 / self.vectors.norm(dim=1).clamp_min(1e-12)
        wanted = vectors.requires_grad and torch.is_grad_enabled()
        self.gradient = torch.zeros_like(self.vectors) if wanted else None
        self.along = torch.zeros_like(self.inverse)  # of each vector: sum of cosine times slope

    def add(self, rows, columns, answers, banned) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed loss of finding ``answers`` among the ``columns`` not ``banned``; the cosines."""
        units = self.vectors[rows] * self.inverse[rows, None]
        cosine = (units @ self.vectors.T).mul_(self.inverse)
        picked = cosine.index_select(1, columns)
        logits = (picked / self.temperature).masked_fill_(banned, float("-inf"))
        loss = F.cross_entropy(logits, answers, reduction="sum")
        if self.gradient is not None:
            slope = logits.softmax(1)
            slope.scatter_add_(1, answers[:, None], slope.new_full((len(rows), 1), -1.0))
            slope = torch.zeros_like(cosine).index_add_(1, columns, slope.div_(self.temperature))
            cosine.mul_(slope)
            self.along += cosine.sum(0)
            self.along.index_add_(0, rows, cosine.sum(1))
            slope.mul_(self.inverse)
            self.gradient.addmm_(slope.T, units)
            self.gradient.index_add_(0, rows, (slope @ self.vectors).mul_(self.inverse[rows, None]))
        return loss, picked

    def whole_gradient(self) -> torch.Tensor | None:
        if self.gradient is not None:
            self.gradient.addcmul_(self.vectors, (self.along * self.inverse**2)[:, None], value=-1)
        return self.gradient


class _WithGradient(torch.autograd.Function):
    """A loss whose gradient with respect to the vectors is there already."""

    @staticmethod
    def forward(ctx, vectors, loss, gradient):
        ctx.gradient = gradient
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, scale):
        if ctx.gradient is None:
            raise RuntimeError("the loss can be differentiated once: compute it again")
        gradient, ctx.gradient = ctx.gradient, None  # autograd takes it over without a copy
        return gradient.mul_(scale), None, None


def excluded_pairs(
    query_keys: Sequence, positive_keys: Sequence, document_keys: Sequence, positives: Sequence[int]
) -> torch.Tensor:
    """Sparse (q, d) mask: documents that are, by text, a known positive of an equal query or the query
    itself.

    A key identifies a text; the query's own positive is never masked.
    """
    known: dict = {}
    for query, positive in zip(query_keys, positive_keys, strict=True):
        known.setdefault(query, {query}).add(positive)
    where: dict = {}
    for column, key in enumerate(document_keys):
        where.setdefault(key, []).append(column)
    pairs = [
        (row, column)
        for row, query in enumerate(query_keys)
        for key in known[query]
        for column in where.get(key, [])
        if column != positives[row]
    ]
    places = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    size = (len(query_keys), len(document_keys))
    ones = torch.ones(len(pairs), dtype=torch.bool)
    return torch.sparse_coo_tensor(places, ones, size, check_invariants=True).coalesce()


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

    ``encode`` maps a chunk of n rows to vectors (n, dim) and may be random (dropout): before each call the
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

        vectors, kept, ends = None, [], list(accumulate(map(len, chunks)))
        for number, end in enumerate(ends):
            output = run(number, number < keep)
            if len(output) != len(chunks[number]):
                raise ValueError(f"{len(chunks[number])} rows of chunk {number} gave {len(output)} vectors")
            if vectors is None:  # cosines are divided by 0.02: 16 bits are not enough for them
                half = output.dtype in (torch.float16, torch.bfloat16)
                wide = torch.float32 if half else output.dtype
                vectors = output.new_empty(ends[-1], *output.shape[1:], dtype=wide)
            vectors[end - len(chunks[number]) : end] = output.detach()
            if number < keep:
                kept.append(output)
        whole, first = gather(vectors) if gather else (vectors, 0)
        del vectors, output
        loss, gradient, metrics = _loss_and_gradient(loss_of, whole.requires_grad_())
        del whole
        if largest is not None:
            top = gradient.abs().max().item()
            metrics["gradient_scale"] = (
                2.0 ** math.floor(math.log2(largest / top)) if 0 < top < math.inf else 1.0
            )
            gradient *= metrics["gradient_scale"]
        if len(gradient) > ends[-1]:  # other workers' rows are theirs to use
            gradient, first = gradient[first : first + ends[-1]].clone(), 0
        for number, end in enumerate(ends):
            output = run(number, True) if number >= keep else kept[number]
            mine = gradient[first + end - len(output) : first + end]
            output.backward(mine.to(output.dtype))
            if number < keep:
                kept[number] = None  # with ``output`` rebound, frees the chunk's vectors
    return loss, metrics


def _loss_and_gradient(loss_of: Callable, vectors: torch.Tensor) -> tuple[float, torch.Tensor, dict]:
    """The loss and its gradient; nothing else of its computation outlives this."""
    loss, metrics = loss_of(vectors)
    loss.backward()
    return loss.item(), vectors.grad, metrics


def _generators() -> list[int]:
    """GPUs whose generator ``torch.manual_seed`` touches and this process uses."""
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []
