"""InfoNCE and gradient caching (Sec. 3.2): pure functions of tensors.

Gradient caching makes a contrastive batch of any size fit: vectors of all chunks first, then the
loss and its gradient with respect to the vectors, then each chunk's backward pass alone. The
gradient is the one of the whole batch, not an average over small batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F


def info_nce(
    queries: torch.Tensor,
    documents: torch.Tensor,
    positives: torch.Tensor,
    temperature: float,
    excluded: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """InfoNCE over in-batch and hard negatives, Sec. 3.2: phi = exp(cos / temperature).

    queries (q, dim) and documents (d, dim) need not be normalised; ``positives`` (q,) gives each
    query's row in ``documents``; ``excluded`` (q, d) is True on documents that are no negatives of a
    query (other known positives). Returns the mean loss and, for the log, accuracy and similarities.
    """
    cosine = F.normalize(queries, dim=-1) @ F.normalize(documents, dim=-1).T
    logits = cosine / temperature
    if excluded is not None:
        logits = logits.masked_fill(excluded, float("-inf"))
    loss = F.cross_entropy(logits, positives)
    with torch.no_grad():
        own = cosine.gather(1, positives[:, None]).squeeze(1)
        usable = torch.ones_like(cosine, dtype=torch.bool) if excluded is None else ~excluded
        usable = usable.scatter(1, positives[:, None], False)
        metrics = {
            "accuracy": (logits.argmax(1) == positives).float().mean().item(),
            "positive_similarity": own.mean().item(),
            "negative_similarity": cosine[usable].mean().item() if usable.any() else float("nan"),
        }
    return loss, metrics


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
) -> tuple[float, dict]:
    """Accumulate the gradient of ``loss_of(cat(encode(c) for c in chunks))``, chunk by chunk.

    ``encode`` maps a chunk to vectors (n, dim) and may be random (dropout): its random state is
    replayed. The graphs of the first ``keep`` chunks stay in memory, so those run forward once
    (4N operations a parameter and token with a frozen base); the others run it twice (6N).
    Returns the loss and what ``loss_of`` measured.
    """
    outputs, states = [], []
    for number, chunk in enumerate(chunks):
        states.append(None if number < keep else _random_state())
        with torch.set_grad_enabled(number < keep):
            outputs.append(encode(chunk))
    vectors = torch.cat([o.detach() for o in outputs]).requires_grad_()
    loss, metrics = loss_of(vectors)
    loss.backward()
    gradients = vectors.grad.split([len(o) for o in outputs])
    after = _random_state()
    for number, (chunk, gradient) in enumerate(zip(chunks, gradients, strict=True)):
        if number >= keep:
            _restore(states[number])
            outputs[number] = encode(chunk)
        outputs[number].backward(gradient.to(outputs[number].dtype))
        outputs[number] = None  # frees the chunk's graph
    _restore(after)
    return loss.item(), metrics


def _random_state():
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def _restore(state) -> None:
    cpu, cuda = state
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
