"""Texts → vectors: pooling, instruction prefix cache, token-budget batches (Sec. 3.2).

A decoder is causal, so the keys and values of ``Instruct: …\\nQuery: `` are the same for every text
under one instruction: they are computed once and reused. The split is made between tokens that all
sequences share, never inside the string, so the vectors are those of the plain computation
(docs/prefix-cache.md). Rows run without padding (packed_rows.py) where the model allows it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np
import torch
from torch.nn import functional as F

from synthembed.ground.hardware import is_out_of_memory
from synthembed.model import packed_rows, probe
from synthembed.model.backbone import Backbone
from synthembed.model.instructions import with_instruction
from synthembed.model.tokens import CACHE

MIN_PREFIX = 4  # shared tokens below which caching is not worth its copies
MAX_PREFIXES = 8  # instructions whose keys and values are kept; the oldest goes first
BRANCH = 32  # rows that leave a common beginning within so many tokens of each other share a batch
BLOCK = 32_768  # texts that are tokenised and sorted together; bounds memory on large corpora


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool hidden states (batch, tokens, dim) to vectors (batch, dim), in float32 or better.

    ``mask`` (batch, tokens) is 1 on real tokens. "last" reads the last real token (Sec. 3.2), "mean"
    averages, "weighted-mean" weights token i by its position (SGPT; Table 5).
    """
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    if pooling == "last":
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask.to(hidden.dtype)
    if pooling == "weighted-mean":
        weights = weights * mask.cumsum(1)
    return (hidden * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True)


def pad(
    rows: list[list[int]], value: int, device: torch.device, side: str = "right"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded ids and mask, each (batch, longest)."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), value, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        at = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[number, at] = torch.tensor(row)
        mask[number, at] = 1
    return ids.to(device), mask.to(device)


def take(lengths: list[int], start: int, tokens: int, padded: bool) -> int:
    """Where a batch that begins at ``start`` ends, for ``lengths`` sorted longest first.

    A batch holds at most ``tokens`` tokens, padding included; a single longer row is a batch of its
    own. A padded batch also ends where padding would outweigh the gain of a larger one.
    """
    longest, total, end = lengths[start], 0, start
    while end < len(lengths):
        total += longest if padded else lengths[end]
        uneven = padded and lengths[end] < 0.8 * longest and total - longest >= tokens / 8
        if end > start and (total > tokens or uneven):
            break
        end += 1
    return end


def budget_batches(lengths: list[int], tokens: int, padded: bool = True) -> Iterator[list[int]]:
    """Indices in batches of at most ``tokens`` tokens, longest first, so that running out of memory
    shows at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    ordered, start = [lengths[i] for i in order], 0
    while start < len(order):
        end = take(ordered, start, tokens, padded)
        yield order[start:end]
        start = end


def _common(a: list[int], b: list[int]) -> int:
    """How many ids two rows share from the start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class EncodingError(RuntimeError):
    """A text that cannot be encoded here; the message says which and what to do."""


@dataclass
class Encoder:
    """A backbone with how it is read: pooling, lengths, batches.

    ``pooling`` and ``max_length`` are those that the saved model says (a sentence-transformers folder), or
    "last" and 512, unless given; ``normalize`` and the prompt before a text without an instruction likewise.
    ``batch_tokens`` bounds the tokens of one forward pass; it changes memory and speed, not the
    vectors. ``padding`` is None (without padding where the model allows it), "right" or "left".
    ``dim`` is the size of a vector.
    """

    backbone: Backbone
    pooling: str | None = None
    max_length: int | None = None
    batch_tokens: int = 4_096
    prefix_cache: bool = True
    padding: str | None = None
    prefixes: OrderedDict = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self):
        said = self.backbone.recipe
        if self.pooling is None and said.refusal:
            raise EncodingError(
                f"{self.backbone.source.get('model')} cannot be read as it says: {said.refusal}. Encode with "
                "sentence-transformers, or name a pooling to read it otherwise"
            )
        self.pooling = self.pooling or said.pooling or "last"
        self.max_length = self.max_length or said.max_length or 512
        self.backbone.check_length(self.max_length)
        if self.padding is None and not packed_rows.supports(self.backbone.model):
            self.padding = "right"

    @property
    def dim(self) -> int:
        return self.backbone.config.hidden_size

    def encode(
        self,
        texts: list[str],
        instruction: str = "",
        normalize: bool | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Vectors (len(texts), dim), float32, in the order of ``texts``.

        Identical texts are encoded once. ``progress(done, total)`` counts texts. Raises EncodingError if a vector
        is not finite.
        """
        normalize = self.backbone.recipe.normalize if normalize is None else normalize
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        unique = list(place)
        out = np.empty((len(unique), self.dim), np.float32)
        for start in range(0, len(unique), BLOCK):
            rows = self.rows(unique[start : start + BLOCK], instruction)
            count = progress and (lambda done, start=start: progress(start + done, len(unique)))
            vectors = self.encode_rows(rows, self.begin(instruction), count)
            out[start : start + len(rows)] = F.normalize(vectors, dim=-1) if normalize else vectors
        return out if len(unique) == len(texts) else out[[place[t] for t in texts]]

    def rows(self, texts: list[str], instruction: str = "") -> list[list[int]]:
        """Token ids of each text as the model reads it, with the token contract checked."""
        contract = self.backbone.contract
        prompt = "" if instruction else self.backbone.recipe.prompt
        found = CACHE.ids(
            contract, [prompt + with_instruction(instruction, t) for t in texts], self.max_length
        )
        contract.check(found)
        return found

    def begin(self, instruction: str) -> list[int]:
        """The ids that texts under ``instruction`` begin with, up to a merge with the text's first token."""
        found = self.rows([""], instruction)[0][:-1] if instruction or self.backbone.recipe.prompt else []
        if len(found) + 1 >= self.max_length:
            raise EncodingError(
                f"the instruction is as long as max_length, {self.max_length} tokens, so that every query would have "
                f"the same vector: raise max_length, or shorten it ({instruction[:60]!r})"
            )
        return found

    @torch.inference_mode()
    def encode_rows(
        self,
        rows: list[list[int]],
        begin: list[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> torch.Tensor:
        """Unnormalised vectors (len(rows), dim) on the CPU, float32, of rows of token ids.

        Longest first, so that running out of memory shows at once: then the token budget is halved
        and the run goes on. ``begin`` are ids that the rows may share.
        """
        shared = self._shared(rows, begin) if self.prefix_cache and self.padding is None else 0
        prefix = self._prefix(rows[0][:shared]) if shared else None
        rows = [row[shared:] for row in rows]
        out = torch.empty((len(rows), self.dim), dtype=torch.float32)
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
        lengths = [len(rows[i]) for i in order]
        budget, done = self.batch_tokens, 0
        while done < len(order):
            end = take(lengths, done, budget, padded=bool(self.padding))
            batch = order[done:end]
            try:
                found = out[batch] = self._forward([rows[i] for i in batch], prefix).float().cpu()
                self._check(found, [shared + len(rows[i]) for i in batch], batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise EncodingError(
                        f"one text of {shared + lengths[done]:,} tokens does not fit into memory: lower max_length"
                    ) from error
                budget = max(1, sum(lengths[done:end]) // 2)
                torch.cuda.empty_cache()
                print(f"out of memory: going on with {budget:,} tokens a batch", flush=True)
                continue
            done = end
            if progress:
                progress(done)
        return out

    def _check(self, vectors: torch.Tensor, tokens: list[int], numbers: list[int]) -> None:
        """Raise if a vector is not finite, or has no length: no score of it would say so."""
        if (none := ~vectors.any(1)).any():
            raise EncodingError(
                f"{int(none.sum())} of {len(tokens)} vectors of a batch are all zeros, such as that of row "
                f"{numbers[int(none.int().argmax())]}: the model's weights are damaged, or too large for its precision"
            )
        if not (finite := vectors.isfinite().all(1)).all():
            bad = [i for i, good in enumerate(finite.tolist()) if not good]
            kind = str(self.backbone.model.dtype).removeprefix("torch.")
            raise EncodingError(
                f"{len(bad)} of {len(tokens)} vectors of a batch are not finite, such as that of row {numbers[bad[0]]}, "
                f"{tokens[bad[0]]} tokens: the model overflows in {kind} (try backbone.dtype bfloat16 or float32), "
                "or its weights are damaged"
            )

    def encode_branches(self, rows: list[list[int]]) -> torch.Tensor:
        """As ``encode_rows``, for rows that go along with each other and part at different places.

        The longest beginning that two rows share is computed once, and every row goes on from where
        it leaves it: of documents of one filler (Sec. 5.2) only what follows the statement is left.
        """
        if self.padding is not None or not self.prefix_cache or len(rows) < 2:
            return self.encode_rows(rows)
        ordered = sorted(rows)
        trunk = max(
            (a[: _common(a, b)] for a, b in pairwise(ordered)),
            key=len,
        )
        shared = [_common(row, trunk) for row in rows]
        out = torch.empty((len(rows), self.dim), dtype=torch.float32)
        order = sorted(range(len(rows)), key=lambda i: -shared[i])  # the longest first serves all others
        for _, group in groupby(order, key=lambda i: shared[i] // BRANCH):
            group = list(group)
            out[group] = self.encode_rows([rows[i] for i in group], trunk)
        return out

    def _shared(self, rows: list[list[int]], begin: list[int] | None) -> int:
        """Length of the token prefix that all rows share; every row keeps a token of its own."""
        if len(rows) < 2 and not begin:
            return 0
        low, high = min(rows), max(rows)  # the common prefix of all is that of the extremes
        limit = min(map(len, rows)) - 1
        if begin:
            limit = min(limit, len(begin))
            low, high = min(low, begin), max(high, begin)
        shared = min(limit, _common(low, high))
        return shared if shared >= MIN_PREFIX else 0

    def _prefix(self, ids: list[int]) -> packed_rows.Prefix:
        """Keys and values of a shared prefix, computed once for these weights, or cut from a longer one."""
        version = sum(p._version for p in self.backbone.model.parameters() if not p.is_inference())
        wanted = tuple(ids)
        for key in self.prefixes:
            if key[1] == version and key[0][: len(ids)] == wanted:
                self.prefixes.move_to_end(key)
                return self.prefixes[key].first(len(ids))
        for key in list(self.prefixes):  # the new one serves in the place of its own beginnings
            if wanted[: len(key[0])] == key[0]:
                del self.prefixes[key]
        made = self.prefixes[wanted, version] = packed_rows.prefix_of(self.backbone.model, ids)
        while len(self.prefixes) > MAX_PREFIXES:
            self.prefixes.popitem(last=False)
        return made

    def _forward(self, rows: list[list[int]], prefix: packed_rows.Prefix | None) -> torch.Tensor:
        return row_vectors(self.backbone, rows, self.pooling, prefix, self.padding)


class Static(Encoder):
    """Mean of the base model's input embeddings over a text's own tokens: no context, no order."""

    @torch.inference_mode()
    def encode_rows(self, rows, begin=None, progress=None):
        table = self.backbone.model.get_input_embeddings().weight
        ends = {self.backbone.contract.bos, self.backbone.contract.eos}
        own = [[i for i in row if i not in ends] or row for row in rows]
        return torch.stack([table[row].mean(0) for row in own]).float().cpu()


def row_vectors(
    backbone: Backbone,
    rows: list[list[int]],
    pooling: str,
    prefix: packed_rows.Prefix | None = None,
    padding: str | None = None,
) -> torch.Tensor:
    """Vectors (rows, dim) of rows of ids, in one forward pass; differentiable, so training uses it too.

    With a ``prefix``, ``rows`` are the ids after it. With ``padding`` (a side; for decoders also the
    left) rows are padded.
    """
    model = backbone.model
    probe.check_rows(model, max(map(len, rows)) + (len(prefix) if prefix else 0))
    if padding:
        ids, mask = pad(rows, backbone.contract.eos, backbone.device, padding)
        # Padded on the right, positions are the model's own; an encoder's may begin at another number.
        places = {"position_ids": (mask.cumsum(1) - 1).clamp_min(0)} if padding == "left" else {}
        hidden = model(input_ids=ids, attention_mask=mask, use_cache=False, **places)
        return pool(hidden.last_hidden_state, mask, pooling)
    if pooling == "last":
        return packed_rows.forward(model, rows, prefix, ends=True)
    return pool_packed(packed_rows.forward(model, rows, prefix), rows, pooling, prefix)


def pool_packed(
    hidden: torch.Tensor, rows: list[list[int]], pooling: str, prefix: packed_rows.Prefix | None = None
) -> torch.Tensor:
    """Pool packed hidden states (tokens, dim) to vectors (rows, dim); the prefix's tokens count too."""
    vectors, start = [], 0
    before = prefix.hidden if prefix else hidden[:0]
    for length, run in groupby(map(len, rows)):
        count = len(list(run))
        states = hidden[start : start + count * length].unflatten(0, (count, length))
        states = torch.cat([before.expand(count, -1, -1), states], 1)
        vectors.append(pool(states, states.new_ones(states.shape[:2], dtype=torch.long), pooling))
        start += count * length
    return torch.cat(vectors)
