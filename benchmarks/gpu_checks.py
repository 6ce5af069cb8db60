"""Correctness on this machine, before any speed: each check a difference beside the one that is allowed."""

from __future__ import annotations

import copy
import math
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from synthembed import profile
from synthembed.model import adapter, packed_rows
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder, row_vectors
from synthembed.profile.settings import Lora
from synthembed.training import train
from synthembed.training.contrastive import cached_backward, info_nce
from torch.nn import functional as F

from benchmarks.gpu_model import MAX_LENGTH, Bench
from benchmarks.gpu_parts import NotHere
from benchmarks.measure import row

LENGTHS = (300, 300, 64, 17, 7, 7, 1)  # tokens of rows in a batch
WINDOWS = (None, 48)


def difference(name: str, found: float, allowed: float, what: str) -> dict:
    """A row whose ratio is above 1 if the check passes. NaN never passes, and JSON has no word for it."""
    verdict = "passed" if found <= allowed else f"FAILED: {found:.3g}"
    finite = found if math.isfinite(found) else None
    made = row(f"check/{name}", finite, allowed, "allowed", what, verdict)
    return made | {"ratio": allowed / finite if finite else None}


def _texts(bench: Bench) -> list[str]:
    return [bench.of_words(count) for count in (3, 9, 9, 40, 150)]


def _least_cosine(one: Encoder, other: Encoder, bench: Bench) -> float:
    """1 - the least cosine over texts with and without an instruction."""
    texts, worst = _texts(bench), 1.0
    for instruction in ("", "Retrieve semantically similar text."):
        a, b = one.encode(texts, instruction), other.encode(texts, instruction)
        worst = min(worst, float((a * b).sum(1).min()))
    return 1 - worst


def precision(bench: Bench) -> Iterator[dict]:
    half = torch.float16 if bench.dtype == torch.float16 else torch.bfloat16
    whole, short = (bench.slice(dtype) for dtype in (torch.float32, half))
    off = _least_cosine(Encoder(whole, max_length=MAX_LENGTH), Encoder(short, max_length=MAX_LENGTH), bench)
    kind = str(half).removeprefix("torch.")
    yield difference("half-precision", off, 2e-3, f"1 - cosine, two layers, {kind} against float32")


def packing(bench: Bench) -> Iterator[dict]:
    model = bench.slice(bench.dtype)
    packed, padded = (Encoder(model, max_length=MAX_LENGTH, padding=p) for p in (None, "right"))
    if packed.padding is not None:
        raise NotHere("this base cannot run packed: packed_rows.supports() says no")
    allowed = 1e-5 if bench.dtype == torch.float32 else 2e-3
    yield difference(
        "packed", _least_cosine(packed, padded, bench), allowed, "1 - cosine, packed against padded"
    )


def varlen(bench: Bench) -> Iterator[dict]:
    """The varlen kernel and its gradients, where it serves."""
    if bench.device.type != "cuda":
        raise NotHere("the varlen kernel needs a CUDA GPU")
    if not packed_rows.uses_varlen(bench.base.model):
        raise NotHere("torch's varlen kernel does not serve here: grouped attention runs in its place")
    yield from against_grouped(bench)


def against_grouped(bench: Bench) -> Iterator[dict]:
    """With and without a window, with and without a prefix, forward and backward, against grouped attention
    in float32."""
    shape, on = bench.size.shape, bench.device
    draw = partial(torch.randn, device=on, dtype=bench.dtype, generator=torch.Generator(on).manual_seed(1))
    tensor = lambda heads, tokens: draw(1, heads, tokens, shape.head_dim)  # noqa: E731
    forward, backward = 0.0, 0.0
    for shared in (0, 33):
        before = tuple(tensor(shape.kv_heads, shared) for _ in range(2)) if shared else None
        prefix = packed_rows.Prefix({0: before} if shared else {}, draw(shared, 1) if shared else None)
        for window in WINDOWS:
            inputs = [tensor(heads, sum(LENGTHS)) for heads in (shape.heads, shape.kv_heads, shape.kv_heads)]
            gradient, results = tensor(shape.heads, sum(LENGTHS)).transpose(1, 2), []
            for kernel, dtype in ((packed_rows._varlen, bench.dtype), (packed_rows._grouped, torch.float32)):
                own = [x.to(dtype).detach().requires_grad_() for x in inputs]
                known = before and tuple(x.to(dtype) for x in before)
                layout = packed_rows.Layout(list(LENGTHS), prefix)
                out = kernel(*own, known, layout, window, None, 0.0)
                out.backward(gradient.to(dtype))
                results.append([out.detach(), *(x.grad for x in own)])
            off = [_relative(a, b) for a, b in zip(*results, strict=True)]
            forward, backward = max(forward, off[0]), max(backward, *off[1:])
    told = "relative difference from grouped attention in float32, windows and a prefix among them"
    yield difference("varlen", forward, 2e-2, told)
    yield difference("varlen-backward", backward, 3e-2, f"gradients' {told}")


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def caching(bench: Bench) -> Iterator[dict]:
    """Gradients of LoRA by gradient caching against one plain backward pass, in float32."""
    model = adapter.add_lora(bench.slice(torch.float32), Lora(dropout=0.0), 0)
    trainable = {n: p for n, p in model.model.named_parameters() if p.requires_grad}
    for name, parameter in trainable.items():
        if "lora_B" in name:  # zero at first, and lora_A's gradient with it
            torch.nn.init.normal_(parameter, std=0.02)
    model.model.train()
    rows = model.contract.ids([bench.of_words(n) for n in (4, 8, 12, 30, 20, 10)], MAX_LENGTH)
    chunks = [rows[0:2], rows[2:3], rows[3:6]]
    places = torch.arange(3, device=model.device)
    found = {}
    for way in ("cached", "plain"):
        model.model.zero_grad(set_to_none=True)
        if way == "cached":
            loss_of = lambda v: info_nce(v, places, places + 3, places, 0.02)  # noqa: E731
            cached_backward(lambda chunk: row_vectors(model, chunk, "last"), chunks, loss_of, 0)
        else:
            units = F.normalize(row_vectors(model, rows, "last"), dim=1)
            F.cross_entropy(units[:3] @ units[3:].T / 0.02, places).backward()
        found[way] = torch.cat([p.grad.flatten() for p in trainable.values()])
    off = _relative(found["cached"], found["plain"])
    yield difference(
        "cached-gradients", off, 1e-3, "relative difference of LoRA's gradient from a plain pass"
    )


def resuming(bench: Bench) -> Iterator[dict]:
    """Four steps at once, and two of them with the rest after a checkpoint: the same adapter. In float32:
    Adam's first steps have one size, so that rounding may turn the smallest of them around."""
    plan = profile.Profile(name="bench").with_overrides({
        "train.batch_size": 4, "train.max_steps": 4, "train.checkpoint_every": 2, "train.chunk_tokens": 1_024,
        "train.epochs": 10.0, "backbone.dtype": "float32",
    })  # fmt: skip
    corpus, base = bench.triplets(12), bench.slice(torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        whole, torn = Path(folder) / "whole", Path(folder) / "torn"
        found = [_adapter(train.fine_tune(plan, _again(base), corpus, whole))]
        shutil.copytree(whole, torn)
        newest = max((torn / "checkpoints").glob("step-*.safetensors"))
        newest.unlink()
        found.append(_adapter(train.fine_tune(plan, _again(base), corpus, torn)))
    start = _adapter(adapter.add_lora(_again(base), plan.lora, plan.seed))
    moved = (found[0] - start).norm()
    off = float((found[1] - found[0]).norm() / moved)
    yield difference("resume", off, 1e-2, "difference of the adapter, by how far four steps moved it")


def _again(base: Backbone) -> Backbone:
    return Backbone(copy.deepcopy(base.model), base.contract, dict(base.source))


def _adapter(model: Backbone) -> torch.Tensor:
    return torch.cat(
        [p.detach().float().flatten() for n, p in model.model.named_parameters() if "lora_" in n]
    )


CHECKS = {  # function → names of its rows
    precision: ["half-precision"], packing: ["packed"], varlen: ["varlen", "varlen-backward"],
    caching: ["cached-gradients"], resuming: ["resume"],
}  # fmt: skip
