"""Texts → vectors: pooling, instruction prefix cache, token-budget batches (Sec. 3.2).

A decoder is causal, so the keys and values of ``Instruct: …\\nQuery: `` are the same for every text
under one instruction: they are computed once and reused. The split is made between tokens that all
sequences share, never inside the string, so the vectors are those of the plain computation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import DynamicCache

from .backbone import Backbone

TEMPLATE = "Instruct: {instruction}\nQuery: {text}"  # Sec. 3.2; no space after the line break
MIN_PREFIX = 4  # shared tokens below which caching is not worth its copies


def with_instruction(instruction: str, text: str) -> str:
    """A query as the model reads it; documents go in as they are."""
    return TEMPLATE.format(instruction=instruction, text=text) if instruction else text


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str, start: int = 0) -> torch.Tensor:
    """Pool hidden states (batch, tokens, dim) to vectors (batch, dim), in float32 or better.

    ``mask`` (batch, tokens) is 1 on real tokens. "last" reads the last real token (Sec. 3.2), "mean"
    averages, "weighted-mean" weights token i by its position (SGPT; Table 5), counted from ``start``.
    """
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    if pooling == "last":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask.to(hidden.dtype)
    if pooling == "weighted-mean":
        weights = weights * (mask.cumsum(1) + start)
    return (hidden * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True)


def pad(rows: list[list[int]], value: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and mask, each (batch, longest)."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), value, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids.to(device), mask.to(device)


def budget_batches(lengths: list[int], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of at most ``tokens`` padded tokens, longest first, so that running out of
    memory shows at once; a single text longer than the budget is a batch of its own.

    A batch also ends where padding would outweigh the gain of a larger batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    for i in order:
        longest = lengths[batch[0]] if batch else 0
        full = (len(batch) + 1) * longest > tokens
        uneven = lengths[i] < 0.8 * longest and len(batch) * longest >= tokens / 8
        if batch and (full or uneven):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@dataclass
class Encoder:
    """A backbone with how it is read: pooling, lengths, batches.

    ``batch_tokens`` bounds the padded tokens of one forward pass; it changes memory and speed, not
    the vectors. ``dim`` is the size of a vector.
    """

    backbone: Backbone
    pooling: str = "last"
    max_length: int = 512
    batch_tokens: int = 4_096
    prefix_cache: bool = True

    @property
    def dim(self) -> int:
        return self.backbone.config.hidden_size

    def encode(
        self,
        texts: list[str],
        instruction: str = "",
        normalize: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Vectors (len(texts), dim), float32, in the order of ``texts``.

        Identical texts are encoded once. ``progress(done, total)`` counts tokens.
        """
        unique = list(dict.fromkeys(texts))
        if not unique:
            return np.zeros((0, self.dim), np.float32)
        contract = self.backbone.contract
        rows = contract.ids([with_instruction(instruction, t) for t in unique], self.max_length)
        contract.check(rows)
        vectors = self.encode_ids(rows, progress)
        if normalize:
            vectors = F.normalize(vectors, dim=-1)
        place = {text: i for i, text in enumerate(unique)}
        return vectors.numpy()[[place[t] for t in texts]]

    @torch.inference_mode()
    def encode_ids(self, rows: list[list[int]], progress=None) -> torch.Tensor:
        """Unnormalised vectors (len(rows), dim) on the CPU, float32, of rows of token ids."""
        shared = self._shared(rows) if self.prefix_cache else 0
        prefix = self._prefix(rows[0][:shared]) if shared else None
        rows = [row[shared:] for row in rows]
        out = torch.empty((len(rows), self.dim), dtype=torch.float32)
        total, done, budget = sum(map(len, rows)), 0, self.batch_tokens
        waiting = [b for b in budget_batches([len(r) for r in rows], budget)]
        while waiting:
            batch = waiting.pop(0)
            try:
                out[batch] = self._forward([rows[i] for i in batch], prefix).cpu()
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                torch.cuda.empty_cache()
                half = len(batch) // 2  # the longest text stays first in each half
                waiting[:0] = [batch[:half], batch[half:]]
                continue
            done += sum(len(rows[i]) for i in batch)
            if progress:
                progress(done, total)
        return out

    def _shared(self, rows: list[list[int]]) -> int:
        """Length of the token prefix that all rows share; every row keeps a token of its own."""
        if len(rows) < 2:
            return 0
        low, high = min(rows), max(rows)  # the common prefix of all is that of the extremes
        limit = min(map(len, rows)) - 1
        shared = next((i for i in range(limit) if low[i] != high[i]), limit)
        return shared if shared >= MIN_PREFIX else 0

    def _prefix(self, ids: list[int]):
        """Keys, values (per layer) and hidden states of the shared prefix, from one short pass."""
        cache = DynamicCache(config=self.backbone.config)
        model = self.backbone.model
        ids_ = torch.tensor([ids], device=self.backbone.device)
        hidden = model(input_ids=ids_, past_key_values=cache, use_cache=True).last_hidden_state
        return cache, hidden

    def _forward(self, rows: list[list[int]], prefix) -> torch.Tensor:
        ids, mask = pad(rows, self.backbone.contract.eos, self.backbone.device)
        if prefix is None:
            hidden = self.backbone.model(input_ids=ids, attention_mask=mask, use_cache=False)
            return pool(hidden.last_hidden_state, mask, self.pooling)
        cache, before = prefix
        length = before.shape[1]
        full = torch.cat([mask.new_ones(len(rows), length), mask], 1)
        positions = torch.arange(length, length + ids.shape[1], device=ids.device)[None]
        hidden = self.backbone.model(
            input_ids=ids,
            attention_mask=full,
            position_ids=positions.expand(len(rows), -1),
            past_key_values=_expand(cache, len(rows), self.backbone.config),
            use_cache=True,
        ).last_hidden_state
        if self.pooling == "last":
            return pool(hidden, mask, "last")
        hidden = torch.cat([before.expand(len(rows), -1, -1), hidden], 1)
        return pool(hidden, full, self.pooling)


def _expand(cache: DynamicCache, batch: int, config) -> DynamicCache:
    """The prefix's keys and values for a batch: views of one copy, never written to."""
    pairs = [
        (layer.keys.expand(batch, -1, -1, -1), layer.values.expand(batch, -1, -1, -1))
        for layer in cache.layers
    ]
    return DynamicCache(pairs, config=config)
