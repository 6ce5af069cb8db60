"""A decoder over rows of different lengths without padding: varlen attention wherever it runs (Sec. 3.2).

All tokens of a batch lie one after the other in one sequence; every layer but attention works on
tokens anyway, and attention is told where the rows begin. Rows may continue one shared prefix whose
keys and values were computed before. With last-token pooling the last layer computes only what the
vectors need: keys and values of all tokens, everything else of the last ones.

The model's own modules run, in training as in encoding; only their attention function is another,
and it does what the model's own did (scaled dot product attention) in calls that are not packed. What
a layer does depends on its arguments alone, so that it is the same when checkpointing runs it again.

Two kernels serve: scaled dot product attention over groups of rows of one length, and torch's varlen
kernel (CUDA, half precision) where it agrees with the first on a probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import accumulate, groupby

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from synthembed.model.cpu.onednn_linear import filling_row

NAME = "packed_rows"
QUERIES = 256  # of a row, under one mask

KeysValues = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Prefix:
    """What rows that begin with the same tokens share: per layer keys and values (1, heads, tokens,
    head dim), and the hidden states (tokens, dim)."""

    layers: dict[int, KeysValues] = field(default_factory=dict)
    hidden: torch.Tensor | None = None

    def __len__(self) -> int:
        return 0 if self.hidden is None else len(self.hidden)

    def first(self, tokens: int) -> Prefix:
        """The prefix of the first ``tokens`` tokens alone, which know nothing of what follows."""
        layers = {n: (k[:, :, :tokens], v[:, :, :tokens]) for n, (k, v) in self.layers.items()}
        return Prefix(layers, self.hidden[:tokens])


@dataclass
class Layout:
    """Where rows lie in a packed batch. ``record`` collects keys and values instead of using a prefix;
    with ``ends`` the last layer computes the last token of each row alone."""

    lengths: list[int]
    prefix: Prefix
    varlen: bool = False
    record: Prefix | None = None
    ends: bool = False
    last: int | None = None  # the layer that ``ends`` cut short
    masks: dict = field(default_factory=dict)  # of this batch, for all layers
    places: dict = field(default_factory=dict)  # likewise

    def __post_init__(self):
        self.starts = [0, *accumulate(self.lengths)]
        self.longest = max(self.lengths)

    def groups(self) -> Iterator[tuple[int, int, int, int]]:
        """(first row, rows, first token, length) of each run of rows of one length."""
        row = 0
        for length, run in groupby(self.lengths):
            count = len(list(run))
            yield row, count, self.starts[row], length
            row += count

    def last_tokens(self, device: torch.device) -> torch.Tensor:
        return self._placed("last tokens", device, lambda: torch.tensor(self.starts[1:]) - 1)

    def starts_of(self, kind: str, device: torch.device) -> torch.Tensor:
        """(rows + 1,) int32: where rows begin and end among "rows" (all tokens), "ends" (last tokens alone)
        or "keys" (every row's keys, the prefix's before its own)."""

        def make() -> torch.Tensor:
            shared, ends = len(self.prefix), [1] * len(self.lengths)
            counts = {"rows": self.lengths, "ends": ends, "keys": [shared + n for n in self.lengths]}[kind]
            return torch.tensor([0, *accumulate(counts)], dtype=torch.int32)

        return self._placed(kind, device, make)

    def keys_of_rows(self, device: torch.device) -> torch.Tensor:
        """Places of each row's keys, where the prefix's lie first and then those of all rows."""

        def make() -> torch.Tensor:
            shared, lengths = len(self.prefix), torch.tensor(self.lengths)
            starts = torch.tensor(self.starts[:-1])
            counts = lengths + shared
            first = starts + shared * torch.arange(len(starts))  # of a row's keys among those of all rows
            within = torch.arange(int(counts.sum())) - first.repeat_interleave(counts)
            return torch.where(within < shared, within, within + starts.repeat_interleave(counts))

        return self._placed("keys of rows", device, make)

    def _placed(self, name: str, device: torch.device, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Made once for all layers: each copy of a list to a GPU makes the CPU wait."""
        if (name, device) not in self.places:
            self.places[name, device] = make().to(device)
        return self.places[name, device]


def supports(model: nn.Module) -> bool:
    """Whether a model runs packed, by what the probe found on it (probe.py); if not, the encoder pads.

    Raises BackboneError if a row depends on its neighbours either way.
    """
    from synthembed.model import probe

    asked = base_of(model).config._attn_implementation
    return asked in ("sdpa", NAME) and probe.findings(model).how == "packed"


def lacks(base: nn.Module) -> str:
    """What a model lacks that packing asks for; "" if it has the parts, and the probe may try."""
    return next((why for why, there in {
        "its attention takes no function of ours": getattr(base, "_supports_attention_backend", False),
        f"its attention is {base.config._attn_implementation}": base.config._attn_implementation in ("sdpa", NAME),
        "its rows do not only look back": all(m.is_causal for m in base.modules() if hasattr(m, "is_causal")),
        "it has no list of layers": hasattr(base, "layers"),
        "its positions are not rotary": hasattr(base, "rotary_emb"),
    }.items() if not there), "")  # fmt: skip


def forward(model: nn.Module, rows: list[list[int]], prefix: Prefix | None = None, ends: bool = False):
    """Hidden states of the last layer, (tokens, dim), rows one after the other; differentiable.

    ``rows`` are token ids without the tokens of ``prefix``. With ``ends`` only the state of each
    row's last token is returned, (rows, dim), and only what it needs is computed.
    """
    count, tokens = len(rows), sum(map(len, rows))
    rows = [*rows, *filling_row(tokens, rows[-1][-1], next(model.parameters()).device)]
    layout = Layout([len(row) for row in rows], prefix or Prefix(), uses_varlen(model), ends=ends)
    hidden = _run(model, rows, layout)
    if ends:
        hidden = hidden[layout.last_tokens(hidden.device)]
    return hidden[: count if ends else tokens]


def prefix_of(model: nn.Module, ids: list[int]) -> Prefix:
    """Keys, values and hidden states of a prefix, from one pass over it."""
    made = Prefix()
    made.hidden = _run(model, [ids], Layout([len(ids)], Prefix(), record=made))
    return made


def _run(model: nn.Module, rows: list[list[int]], layout: Layout) -> torch.Tensor:
    base = base_of(model)
    _prepare(base)
    layout.last = getattr(getattr(base.layers[-1], "self_attn", None), "layer_idx", None)
    device = next(model.parameters()).device
    begin = len(layout.prefix)
    return model(
        input_ids=torch.tensor([[i for row in rows for i in row]], device=device),
        position_ids=torch.cat([torch.arange(begin, begin + n) for n in layout.lengths])[None].to(device),
        attention_mask=torch.empty(1, 1, 0, 0, device=device),  # four dimensions: no mask is made of it
        use_cache=False,
        packed_layout=layout,
    ).last_hidden_state[0]


def _prepare(base: nn.Module) -> None:
    """Our attention function, and a last layer that can be cut short; calls without a layout do as before."""
    base.config._attn_implementation = NAME
    attention = getattr(base.layers[-1], "self_attn", None)
    if attention is not None and not EndsAlone.serves(base.layers[-1]):
        EndsAlone(base.layers[-1])


def withdraw(base: nn.Module, attention: str) -> None:
    """Undo ``_prepare``: the model's own ``attention``, a last layer without hooks."""
    base.config._attn_implementation = attention
    EndsAlone.leave(base.layers[-1])


def base_of(model: nn.Module) -> nn.Module:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class EndsAlone:
    """Hooks by which the last layer computes only what its rows' last tokens need (Sec. 3.2).

    The layer's own code runs. Its query projection, output projection and MLP, of which each works on
    every token alone, are given the last tokens, and what they return is put back among zeros, which
    nobody reads. So it serves every decoder whose parts have these names, whatever norms and factors stand
    between them; of one that has other parts, more is computed.
    """

    def __init__(self, layer: nn.Module):
        self.ends: torch.Tensor | None = None
        self.parts = _parts_of(layer)
        self.leave(layer)  # of parts that an adapter has taken in since
        layer.self_attn.register_forward_pre_hook(self.begin, with_kwargs=True)
        for part in self.parts:
            part.register_forward_pre_hook(self.choose)
            part.register_forward_hook(self.put_back)

    @staticmethod
    def leave(layer: nn.Module) -> None:
        """Take these hooks off every part of a layer."""
        for module in layer.modules():
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for key in [
                    k for k, h in hooks.items() if isinstance(getattr(h, "__self__", None), EndsAlone)
                ]:
                    del hooks[key]

    @staticmethod
    def serves(layer: nn.Module) -> bool:
        """Whether the layer has these hooks, on the parts that it has now."""
        attention = getattr(layer, "self_attn", None)
        own = attention._forward_pre_hooks.values() if attention is not None else ()
        hooks = (getattr(h, "__self__", None) for h in own)
        return any(isinstance(h, EndsAlone) and h.parts == _parts_of(layer) for h in hooks)

    def begin(self, attention: nn.Module, args: tuple, options: dict) -> None:
        layout, hidden = options.get("packed_layout"), options.get("hidden_states", args[0] if args else None)
        self.ends = layout.last_tokens(hidden.device) if layout is not None and layout.ends else None
        self.tokens = hidden.shape[1]

    def choose(self, part: nn.Module, args: tuple) -> tuple:
        return args if self.ends is None else (args[0][:, self.ends], *args[1:])

    def put_back(self, part: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        return output if self.ends is None else among_zeros(output, self.ends, self.tokens)


def _parts_of(layer: nn.Module) -> list[nn.Module]:
    attention = layer.self_attn
    found = [
        getattr(attention, "q_proj", None),
        getattr(attention, "o_proj", None),
        getattr(layer, "mlp", None),
    ]
    return [part for part in found if part is not None]


def among_zeros(rows: torch.Tensor, places: torch.Tensor, tokens: int) -> torch.Tensor:
    """(1, rows, dim) at their ``places`` among ``tokens``, zeros elsewhere."""
    return rows.new_zeros(1, tokens, *rows.shape[2:]).index_copy(1, places, rows)


def attend(
    module, query, key, value, attention_mask, *, packed_layout: Layout | None = None, scaling=None,
    dropout=0.0, sliding_window=None, **options,
):  # fmt: skip
    """transformers' attention interface over a packed batch: each row sees the prefix and itself.

    query (1, heads, tokens, head dim), key and value (1, key-value heads, tokens, head dim); returns (1,
    tokens, heads, head dim). Where only the rows' last tokens are read, they alone ask, and the rest is zero.
    """
    if packed_layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout,
            sliding_window=sliding_window, **options,
        )  # fmt: skip
    layout, index = packed_layout, module.layer_idx
    if layout.record is not None:
        layout.record.layers[index] = (key, value)
    before = layout.prefix.layers.get(index)
    longest = len(layout.prefix) + layout.longest
    # What the layer asks for, and what passkey.py lays on it. A module's own ``sliding_window`` says nothing:
    # EXAONE 4 keeps one in layers that see everything.
    windows = [w for w in (sliding_window, getattr(module, "laid_window", None)) if w and w < longest]
    window = min(windows, default=None)
    kernel = _varlen if layout.varlen else _grouped
    if not layout.ends or index != layout.last:
        return kernel(query, key, value, before, layout, window, scaling, dropout), None
    ends = layout.last_tokens(query.device)
    mixed = kernel(query[:, :, ends], key, value, before, layout, window, scaling, dropout)
    return among_zeros(mixed, ends, query.shape[2]), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _grouped(query, key, value, before: KeysValues | None, layout: Layout, window, scaling, dropout):
    """Scaled dot product attention, one call for every run of rows of one length."""
    ends, mixed = query.shape[2] != key.shape[2], []
    for row, count, token, length in layout.groups():
        of_group = slice(token, token + count * length)
        k, v = (x[0, :, of_group].unflatten(1, (count, length)).transpose(0, 1) for x in (key, value))
        if before is not None:
            k, v = (
                torch.cat([p.expand(count, -1, -1, -1), x], 2) for p, x in zip(before, (k, v), strict=True)
            )
        asked, mine = (1, slice(row, row + count)) if ends else (length, of_group)
        q = query[0, :, mine].unflatten(1, (count, asked)).transpose(0, 1)
        attention = partial(
            F.scaled_dot_product_attention, dropout_p=dropout, scale=scaling,
            enable_gqa=k.shape[1] != q.shape[1],
        )  # fmt: skip
        whole = k.shape[2]
        if asked == 1:  # one token sees everything before it, or its window
            seen = slice(max(0, whole - window) if window else 0, whole)
            out = attention(q, k[:, :, seen], v[:, :, seen])
        elif whole == length and (window is None or whole <= window):
            out = attention(q, k, v, is_causal=True)
        else:
            blocks = []
            for asks, seen in _blocks(length, whole, window):
                mask = _mask(asks.stop - asks.start, seen.stop - seen.start, window, layout, q)
                blocks.append(attention(q[:, :, asks], k[:, :, seen], v[:, :, seen], attn_mask=mask))
            out = torch.cat(blocks, 2)
        mixed.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed)[None]


def _blocks(length: int, whole: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """(queries, keys) that cover a row's last ``length`` of ``whole`` tokens: few queries at a time, with
    the keys that one of them sees, so that what a mask hides is for the most part not computed."""
    for start in range(0, length, QUERIES):
        end, at = min(length, start + QUERIES), whole - length
        yield slice(start, end), slice(max(0, at + start + 1 - window) if window else 0, at + end)


def _mask(queries: int, keys: int, window: int | None, layout: Layout, like: torch.Tensor) -> torch.Tensor:
    """(queries, keys) additive mask: the last query stands at the last key. Made once for all layers."""
    form = (queries, keys, window)
    if form not in layout.masks:
        at, seen = torch.arange(keys - queries, keys)[:, None], torch.arange(keys)[None]
        allowed = (seen <= at) if window is None else (seen <= at) & (seen > at - window)
        mask = torch.zeros(queries, keys, dtype=like.dtype).masked_fill(~allowed, float("-inf"))
        layout.masks[form] = mask.to(like.device)
    return layout.masks[form]


def _varlen(query, key, value, before: KeysValues | None, layout: Layout, window, scaling, dropout):
    """torch's variable-length flash attention: all rows in one call."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    ends, device, shared = len(q) != len(k), q.device, len(layout.prefix)
    if before is not None:
        index = layout.keys_of_rows(device)
        k, v = (torch.cat([p[0].transpose(0, 1), x])[index] for p, x in zip(before, (k, v), strict=True))
    longest = layout.longest
    out = varlen_attn(
        q, k, v, layout.starts_of("ends" if ends else "rows", device), layout.starts_of("keys", device),
        1 if ends else longest, shared + longest, scale=scaling,
        window_size=(window - 1 if window else -1, 0), enable_gqa=k.shape[1] != q.shape[1],
    )  # fmt: skip
    return out[None]


def uses_varlen(model: nn.Module) -> bool:
    """Whether torch's varlen kernel serves this model here: CUDA, half precision, and it gives on a
    probe what grouped attention gives."""
    base = base_of(model)
    parameter = next(base.parameters())
    if parameter.device.type != "cuda" or parameter.dtype not in (torch.float16, torch.bfloat16):
        return False
    c = base.config
    size = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    dropout = getattr(c, "attention_dropout", 0.0)
    if model.training and dropout:
        return False
    return _varlen_agrees(
        parameter.device, parameter.dtype, c.num_attention_heads, c.num_key_value_heads, size
    )


@cache
def _varlen_agrees(device, dtype, heads: int, kv_heads: int, size: int) -> bool:
    draw = partial(torch.randn, device=device, dtype=dtype, generator=torch.Generator(device).manual_seed(0))
    lengths, shared = [7, 7, 3, 1], 5
    query, key, value = (draw(1, n, sum(lengths), size) for n in (heads, kv_heads, kv_heads))
    prefix = Prefix({0: (draw(1, kv_heads, shared, size), draw(1, kv_heads, shared, size))})
    prefix.hidden = draw(shared, 1)
    try:
        for window in (None, 4):
            pair = [
                kernel(query, key, value, prefix.layers[0], Layout(lengths, prefix), window, None, 0.0)
                for kernel in (_varlen, _grouped)
            ]
            if not torch.allclose(*map(torch.Tensor.float, pair), atol=2e-2, rtol=2e-2):
                print("the varlen kernel disagrees with grouped attention here: it is not used", flush=True)
                return False
    except (RuntimeError, ImportError, NotImplementedError) as error:
        print(
            f"the varlen kernel does not run here ({str(error).splitlines()[0]}): it is not used", flush=True
        )
        return False
    return True
