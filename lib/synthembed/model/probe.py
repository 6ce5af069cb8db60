"""Is a row's vector its own? Found out at load, on the very model: packed, padded, or refused.

Whether rows may lie one after the other in one pass (packed_rows.py) is no property of a family's name:
windows, chunks, convolutions, recurrent states and positions are each told where rows begin, or are not. So a
few tokens run through the model's own forward pass, each row alone, as transformers has it; and then as we
would run them, with windows shrunk so that rows reach beyond their edge. Equal: rows run packed. Otherwise rows
are padded, if that gives each its own states; if not, the model is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from synthembed.ground.weights.embedded import BackboneError
from synthembed.model import packed_rows

# Two rows that begin alike, longer than EDGE; ids of a text's tokens are better, and load() gives them.
ROWS = ([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 2], [5, 6, 7, 8, 20, 21, 2])
EDGE = 4  # tokens of a window or chunk while the probe runs: of both rows, some lie beyond it
WINDOWS = (
    "sliding_window",
    "attention_chunk_size",
    "local_attention",
    "window_size",
    "attention_window_size",
)
# Of the second row's states when the first is another of its length: every shape is the same, and so is every
# number, but for a product that sums in another order where its operands lie elsewhere.
TOUCHED = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 2e-3}
# Relative distance of a token's states below which two computations are one. A rounding is 2^-24, 2^-11 (float16)
# or 2^-8 (bfloat16) of a number, and some hundred of them add up along the layers; what a token of
# another row does to a state is of the size of the state itself.
LEAST = {torch.float64: 1e-6, torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.15}
# RoPE scalings by which a position's angle depends on the longest row of a batch, once that is beyond a length.
BATCH_DEPENDENT_ROPE = {"dynamic", "longrope"}
# Of a config, how many tokens or blocks before it a token of a sparse attention chooses to look at. Packed, it
# would choose among those of all rows, which shows in no row that is shorter; so it never runs packed.
CHOOSES = ("index_topk", "index_topk_blocks", "keep_window_size", "indexer_budget")
# Of these, where a longer row's choice among equal scores depends on the number of keys, which padding adds to.
BATCH_DEPENDENT_CHOICE = ("index_topk", "indexer_budget")


@dataclass(frozen=True)
class Findings:
    """``how`` rows run, "packed" or "padded", and ``why`` not packed; ``longest`` is the number of tokens up to
    which a row's vector does not depend on its neighbours, None if there is no such limit."""

    how: str
    why: str = ""
    longest: int | None = None


def findings(model: nn.Module) -> Findings:
    """What the probe found when the model was loaded, or finds now. Raises BackboneError as ``examine``."""
    base = packed_rows.base_of(model)
    if "_probed" not in base.__dict__:
        examine(base, ROWS, alone(base, ROWS))
    return base.__dict__["_probed"]


@torch.no_grad()
def alone(base: nn.Module, rows) -> list[torch.Tensor]:
    """Each row's states (tokens, dim) by the model's own forward pass, windows shrunk. Raises BackboneError if
    it has none for token ids alone, as a model of images or an encoder-decoder."""
    device, kind = next(base.parameters()).device, base.config.model_type
    try:
        with _inference(base), _shrunk(base):
            states = [
                base(input_ids=torch.tensor([row], device=device), use_cache=False).last_hidden_state[0]
                for row in rows
            ]
    except Exception as error:
        raise BackboneError(
            f"a {kind} model gives no states for token ids alone ({_told(error)}): choose a decoder or an encoder of text"
        ) from error
    if any(len(state) != len(row) for state, row in zip(states, rows, strict=True)):
        raise BackboneError(f"a {kind} model does not give one state a token: choose a decoder or an encoder")
    if states[0].shape[1] != base.config.hidden_size:
        raise BackboneError(
            f"the {kind} model's states have {states[0].shape[1]} numbers, its hidden_size is {base.config.hidden_size}, "
            "and a vector's length is that: choose another base"
        )
    if not all(state.isfinite().all() for state in states):
        raise BackboneError(
            f"the {kind} model's states are not finite on {len(rows[0])} tokens in "
            f"{str(base.dtype).removeprefix('torch.')}: its weights are damaged, or it needs backbone.dtype "
            "bfloat16 or float32"
        )
    return states


@torch.no_grad()
def examine(base: nn.Module, rows, expected: list[torch.Tensor]) -> Findings:
    """Decide how rows run on ``base``, whose own states of each row alone are ``expected`` (``alone``), and
    remember it. Raises BackboneError if even padding does not give each row its own states."""
    with _inference(base), _shrunk(base):
        why = _not_packed(base, rows, expected)
        if why:
            try:
                off = _distance(_padded(base, rows), expected)
                also = (
                    ""
                    if off < LEAST.get(base.dtype, 0.15)
                    else f"its states are off by {off:.2g} of their length"
                )
            except Exception as error:
                also = _told(error)
            if also:
                raise BackboneError(
                    f"a row of a {base.config.model_type} model depends on its neighbours in a batch, packed "
                    f"({why}) and padded ({also}): its vectors would change from batch to batch, and it is refused"
                )
    base.__dict__["_probed"] = Findings("padded" if why else "packed", why, _longest(base))
    return base.__dict__["_probed"]


def _not_packed(base: nn.Module, rows, expected: list[torch.Tensor]) -> str:
    """Why rows do not run packed; "" if they do, with and without a prefix, and for their last tokens alone."""
    if why := packed_rows.lacks(base):
        return why
    if any(getattr(base.config, name, None) for name in CHOOSES):
        return "its attention chooses among the tokens before"
    asked = base.config._attn_implementation
    shared = next((i for i, (a, b) in enumerate(zip(*rows, strict=False)) if a != b), 1)
    try:
        lengths = [len(row) for row in rows]
        found = packed_rows.forward(base, rows).split(lengths)
        off = _distance(found, expected)
        if off < LEAST.get(base.dtype, 0.15):
            prefix = packed_rows.prefix_of(base, rows[0][:shared])
            ends = packed_rows.forward(base, [row[shared:] for row in rows], prefix, ends=True)
            off = _distance([state[None] for state in ends], [state[-1:] for state in expected])
        why = (
            "" if off < LEAST.get(base.dtype, 0.15) else f"packed states are off by {off:.2g} of their length"
        )
        if not why:  # a trace of the neighbour that rounding would hide
            others = packed_rows.forward(base, [rows[0][::-1], *rows[1:]]).split(lengths)
            off = _distance(others[1:], found[1:], each=not _has_experts(base))
            why = (
                ""
                if off < TOUCHED.get(base.dtype, 2e-3)
                else f"packed, a row's states depend on the row before it ({off:.2g})"
            )
    except Exception as error:
        why = f"packed, it fails: {_told(error)}"
    if why:
        packed_rows.withdraw(base, asked)
    return why


def _padded(base: nn.Module, rows) -> list[torch.Tensor]:
    """Each row's states in one padded batch."""
    device, width = next(base.parameters()).device, max(map(len, rows))
    ids = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    states = base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return [state[: len(row)] for state, row in zip(states, rows, strict=True)]


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"


def _has_experts(base: nn.Module) -> bool:
    return any(p.ndim == 3 and "expert" in name for name, p in base.named_parameters())


def _distance(found, expected, each: bool = False) -> float:
    """The largest relative distance of a token's states. In 16 bits that of half of a row's tokens, of the row
    where it is largest, unless ``each`` counts: a router's choice of experts may tip over for a single token."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        a, b = (x if x.dtype == torch.float64 else x.float() for x in (a, b))
        off = (a - b).norm(dim=-1) / b.norm(dim=-1).clamp_min(1e-12)
        half = expected[0].dtype.itemsize < 4 and not each
        worst = max(worst, (off.median() if half else off.max()).nan_to_num(float("inf")).item())
    return worst


@contextmanager
def _inference(base: nn.Module) -> Iterator[None]:
    """Without dropout, and as before afterwards."""
    training = base.training
    base.eval()
    try:
        yield
    finally:
        base.train(training)


@contextmanager
def _shrunk(base: nn.Module) -> Iterator[None]:
    """Windows and chunks of EDGE tokens, in the config and where a module keeps its own."""
    owners = [
        *{id(m.config): m.config for m in base.modules() if hasattr(m, "config")}.values(),
        *base.modules(),
    ]
    kept = [
        (owner.__dict__, name, owner.__dict__[name])
        for owner in owners
        for name in WINDOWS
        if type(getattr(owner, "__dict__", {}).get(name)) is int
    ]
    try:
        for place, name, value in kept:
            place[name] = min(value, EDGE) if value > 0 else value
        yield
    finally:
        for place, name, value in kept:
            place[name] = value


def _longest(base: nn.Module) -> int | None:
    """The length up to which neither RoPE's angles nor a choice of keys depend on the longest row of a batch."""
    config = base.config
    rope = getattr(config, "rope_parameters", None) or {}
    tables = [rope, *(v for v in rope.values() if isinstance(v, dict))]  # one for each kind of layer, if any
    limits = [
        table.get("original_max_position_embeddings") or config.max_position_embeddings
        for table in tables
        if table.get("rope_type") in BATCH_DEPENDENT_ROPE
    ]
    limits += [choice for name in BATCH_DEPENDENT_CHOICE if (choice := getattr(config, name, None))]
    return min(limits, default=None)


def check_rows(model: nn.Module, longest: int) -> None:
    """Raise if a row of ``longest`` tokens would depend on its neighbours."""
    limit = findings(model).longest
    if limit is not None and longest > limit:
        config = packed_rows.base_of(model).config
        part = (
            "choice of keys"
            if limit in [getattr(config, name, None) for name in BATCH_DEPENDENT_CHOICE]
            else "RoPE"
        )
        raise BackboneError(
            f"a row of {longest:,} tokens: beyond {limit:,}, the {part} of this {config.model_type} model depends on the longest row "
            f"of a batch, and so would the vectors. Lower max_length to {limit:,}"
        )
