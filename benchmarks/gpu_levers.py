"""What may make it faster, each switched alone against the default, on one short batch or step.

None of them is on by default: whether one pays is what this measures. Each gives the same vectors as the
default but for rounding, and the row says how near.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from synthembed.model import packed_rows
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.training.gpu_cost import graph_tokens_in

from benchmarks.gpu_model import MAX_LENGTH, Bench, Work, finish
from benchmarks.gpu_parts import NotHere
from benchmarks.gpu_speed import least_cosine, run_ours, useful_tokens
from benchmarks.measure import in_turn, row


def needs(package: str, install: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise NotHere(f"not installed: {install}")


def needs_cuda(bench: Bench) -> None:
    if bench.device.type != "cuda":
        raise NotHere("needs a CUDA GPU")


def short(bench: Bench, kind: str) -> Work:
    """One short batch of that kind."""
    (instruction, texts) = bench.works[kind][0]
    return [(instruction, texts[: bench.size.lever_documents * (8 if kind == "queries" else 1)])]


def beside(
    name: str, bench: Bench, work: Work, lever: Callable, default: Callable, told: str, other="the default"
):
    """A row: tokens/s with the lever beside those without it; both give vectors."""
    least = least_cosine(lever(), default())
    seconds = in_turn({"lever": lever, "default": default}, bench.size.rounds)
    tokens = useful_tokens(bench.encoder(), work)
    check = f"{told}, least cosine {least:.5f}"
    return row(
        f"lever/{name}", tokens / seconds["lever"], tokens / seconds["default"], other, "tokens/s", check
    )


def encoders(bench: Bench, changed: Encoder, work: Work) -> tuple[Callable, Callable]:
    plain = bench.encoder()
    return lambda: run_ours(changed, work), lambda: run_ours(plain, work)


# -- encoding ------------------------------------------------------------------------------------


def varlen_places(bench: Bench) -> Iterator[dict]:
    """The default (places once a batch) beside places that every layer makes again."""
    needs_cuda(bench)
    encoder, work = bench.encoder(), short(bench, "queries")
    if not packed_rows.uses_varlen(encoder.backbone.model):
        raise NotHere("torch's varlen kernel does not serve here")
    kernel = packed_rows._varlen

    def forgetful(query, key, value, before, layout, *rest):
        layout.places.clear()
        return kernel(query, key, value, before, layout, *rest)

    def in_every_layer() -> np.ndarray:
        packed_rows._varlen = forgetful
        try:
            return run_ours(encoder, work)
        finally:
            packed_rows._varlen = kernel

    once = lambda: run_ours(encoder, work)  # noqa: E731
    yield beside("varlen-places", bench, work, once, in_every_layer, "once a batch: on", "in every layer")


def flash_attention(bench: Bench) -> Iterator[dict]:
    needs("flash_attn", "flash-attn")
    needs_cuda(bench)
    model = bench.copy()
    model.model.config._attn_implementation = "flash_attention_2"
    work = short(bench, "documents")
    sides = encoders(bench, bench.encoder(model, padding="right"), work)
    yield beside("flash-attention", bench, work, *sides, "padded rows, flash_attention_2: off")


def liger(bench: Bench) -> Iterator[dict]:
    """Fused RMSNorm, RoPE and SwiGLU of liger-kernel; its RoPE replaces a function of transformers' module."""
    needs("liger_kernel", "liger-kernel")
    needs_cuda(bench)
    from liger_kernel.transformers import apply_liger_kernel_to_mistral
    from transformers.models.mistral import modeling_mistral

    before, work = dict(vars(modeling_mistral)), short(bench, "documents")
    model, plain = bench.copy(), bench.encoder()
    options = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    try:
        apply_liger_kernel_to_mistral(rope=True, rms_norm=True, swiglu=True, model=model.model, **options)
        patched = {k: v for k, v in vars(modeling_mistral).items() if before.get(k) is not v}
    finally:
        vars(modeling_mistral).update(before)
    changed = bench.encoder(model)

    def fused() -> np.ndarray:
        vars(modeling_mistral).update(patched)
        try:
            return run_ours(changed, work)
        finally:
            vars(modeling_mistral).update(before)

    told = "fused RMSNorm, RoPE, SwiGLU: off"
    yield beside("liger", bench, work, fused, lambda: run_ours(plain, work), told)


def compiled(bench: Bench) -> Iterator[dict]:
    """torch.compile of what every token goes through alone; attention's lengths are each batch's own."""
    needs_cuda(bench)
    model = bench.copy()
    for layer in model.model.layers:
        for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
            part.forward = torch.compile(part.forward, dynamic=True)
    work = short(bench, "documents")
    sides = encoders(bench, bench.encoder(model), work)
    yield beside("compile", bench, work, *sides, "MLPs and norms compiled: off")


def cuda_graphs(bench: Bench) -> Iterator[dict]:
    """A short padded batch of one form, replayed as a CUDA graph."""
    needs_cuda(bench)
    instruction, texts = short(bench, "queries")[0]
    work, plain = [(instruction, texts[:16])], bench.encoder()
    rows = plain.rows(work[0][1], instruction)
    forward = of_one_form(bench, rows)
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                forward()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = forward()

    def replay() -> np.ndarray:
        plain.rows(work[0][1], instruction)  # the same tokenising as the default's
        graph.replay()
        return out.cpu().numpy()

    told = f"{len(rows)} queries padded to {max(map(len, rows))} tokens, instruction included: off"
    yield beside("cuda-graphs", bench, work, replay, lambda: run_ours(plain, work), told)


def of_one_form(bench: Bench, rows: list[list[int]]) -> Callable[[], torch.Tensor]:
    """A forward pass over padded rows that makes no tensor of a list and waits for nothing; unit vectors."""
    model, on, width = bench.copy().model, bench.device, max(map(len, rows))
    ids = torch.tensor([row + [row[-1]] * (width - len(row)) for row in rows], device=on)
    places = torch.arange(width, device=on)
    mask = torch.zeros(len(rows), 1, width, width, device=on, dtype=bench.dtype)
    mask.masked_fill_(places[None] > places[:, None], float("-inf"))  # causal: what pads comes after
    last = torch.tensor([len(row) - 1 for row in rows], device=on)
    own = torch.arange(len(rows), device=on)

    def forward() -> torch.Tensor:
        states = model(input_ids=ids, attention_mask=mask, position_ids=places[None], use_cache=False)
        return torch.nn.functional.normalize(states.last_hidden_state[own, last].float(), dim=-1)

    return forward


def async_tokens(bench: Bench) -> Iterator[dict]:
    """The next texts are tokenised in a thread while the GPU encodes those before them."""
    encoder, instruction = bench.encoder(), bench.works["queries"][0][0]
    texts = bench.works["queries"][0][1]
    block = max(2, len(texts) // 4)

    def ahead() -> np.ndarray:
        vectors = []
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(encoder.rows, texts[:block], instruction)
            for start in range(0, len(texts), block):
                rows = coming.result()
                coming = pool.submit(encoder.rows, texts[start + block : start + 2 * block], instruction)
                vectors.append(encoder.encode_rows(rows, encoder.begin(instruction)))
        return torch.nn.functional.normalize(torch.cat(vectors), dim=-1).numpy()

    work = [(instruction, texts)]
    told = f"blocks of {block} queries, tokenised one ahead: off"
    yield beside("async-tokens", bench, work, ahead, lambda: run_ours(encoder, work), told)


def fp8(bench: Bench) -> Iterator[dict]:
    """torchao: weights in 8-bit floats, activations made so at every product, a scale for each row."""
    needs("torchao", "torchao")
    needs_cuda(bench)
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    model = bench.copy()
    quantize_(model.model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))
    work = short(bench, "documents")
    sides = encoders(bench, bench.encoder(Backbone(model.model, model.contract, model.source)), work)
    yield beside("fp8", bench, work, *sides, "other numbers than the default's: off")


# -- training ------------------------------------------------------------------------------------


def steps(name: str, bench: Bench, told: str, **settings) -> dict:
    """A row: a small step with ``settings`` beside one with the paper's."""
    corpus = bench.triplets(bench.size.lever_batch)
    sides = {"lever": bench.stepper(corpus, **settings), "default": bench.stepper(corpus)}
    losses, tokens = {}, 0
    for side, step in sides.items():
        losses[side], tokens = step(corpus)
    seconds = in_turn(
        {side: lambda s=step: s(corpus) for side, step in sides.items()}, min(2, bench.size.rounds)
    )
    finish(bench.device)
    check = f"{told}; losses {losses['lever']:.4f} and {losses['default']:.4f}"
    rates = [tokens / seconds[side] for side in ("lever", "default")]
    return row(f"lever/{name}", *rates, "the default", "tokens/s", check)


def kept_graphs(bench: Bench) -> Iterator[dict]:
    """Graphs kept as far as free memory goes by the memory model, with checkpointing: 6N in place of 8N."""
    total = (
        torch.cuda.get_device_properties(bench.device).total_memory / 1e9
        if bench.device.type == "cuda"
        else 8.0
    )
    tokens = graph_tokens_in(
        total, bench.size.shape, chunk_tokens=bench.size.chunk_tokens, texts=3 * bench.size.lever_batch
    )
    tokens = min(tokens, 3 * MAX_LENGTH * bench.size.lever_batch)
    told = f"graph_tokens {tokens:,} in {total:.0f} GB: off"
    yield steps("kept-graphs", bench, told, graph_tokens=tokens)


def no_checkpointing(bench: Bench) -> Iterator[dict]:
    """Nothing runs a third time; chunks small enough for the whole graph."""
    chunk = bench.size.chunk_tokens // 4
    told = f"chunks of {chunk:,} tokens, no checkpointing: off"
    yield steps("no-checkpointing", bench, told, chunk_tokens=chunk, gradient_checkpointing=False)


LEVERS = {  # name → how it is measured; what pays most if it pays comes first
    "kept-graphs": kept_graphs, "no-checkpointing": no_checkpointing, "varlen-places": varlen_places,
    "fp8": fp8, "liger": liger, "compile": compiled, "flash-attention": flash_attention,
    "cuda-graphs": cuda_graphs, "async-tokens": async_tokens,
}  # fmt: skip
