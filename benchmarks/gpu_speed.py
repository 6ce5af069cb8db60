"""Encoding and one contrastive step, each beside the best peer that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import numpy as np
import torch
from synthembed.ground.hardware import is_out_of_memory
from synthembed.model.encoder import Encoder
from synthembed.model.instructions import TEMPLATE, query_text

from benchmarks.gpu_model import WARM, Bench, Work, finish, peak_of, product_rate
from benchmarks.gpu_parts import NotHere
from benchmarks.measure import in_turn, row

PEER_LOSS = "sentence-transformers CachedMultipleNegativesRankingLoss"
EXAMPLES = 1_800_000  # of the paper's full data


def rate(bench: Bench) -> Iterator[dict]:
    side = bench.size.product
    bench.rate = product_rate(bench.device, bench.dtype, side)
    kind = str(bench.dtype).removeprefix("torch.")
    yield row(
        "rate", bench.rate / 1e12, None, "", "TFLOP/s",
        f"torch.matmul of random {side:,} x {side:,} in {kind}: the denominator of every MFU below",
    )  # fmt: skip


def shares(name: str, factor: int, bench: Bench, ours: float, peer: float | None, peer_name: str) -> dict:
    """The row of MFU: ``factor`` N operations a useful token, by the rate measured in this run."""
    if bench.rate is None:
        raise NotHere("the matrix-product rate was not measured: there is nothing to divide by")
    each = factor * bench.base.matrix_parameters() / bench.rate
    told = f"{factor}N useful operations a token over {bench.rate / 1e12:,.4g} TFLOP/s"
    return row(f"{name}/mfu", ours * each, peer and peer * each, peer_name, "MFU", told)


def memories(name: str, ours: float, peer: float | None, peer_name: str, on: torch.device) -> dict:
    """The row of peak memory, its ratio above 1 if ours is less."""
    what = "torch's allocations" if on.type == "cuda" else "the process so far: no measure of one side"
    found = row(f"{name}/memory", ours, peer, peer_name, "GB at the peak", f"{what}, weights included")
    return found | {"ratio": peer / ours if peer else None}


# -- encoding ------------------------------------------------------------------------------------


def useful_tokens(encoder: Encoder, work: Work) -> int:
    """Tokens that the vectors need: those of an instruction count once."""
    total = 0
    for instruction, texts in work:
        rows = encoder.rows(texts, instruction)
        shared = encoder._shared(rows, encoder.begin(instruction))
        total += sum(map(len, rows)) - shared * (len(rows) - 1)
    return total


def run_ours(encoder: Encoder, work: Work) -> np.ndarray:
    return np.concatenate([encoder.encode(texts, instruction) for instruction, texts in work])


def run_peer(peer, work: Work, size: int) -> np.ndarray:
    prompts = [TEMPLATE.format(instruction=i, text="") if i else "" for i, _ in work]
    return np.concatenate([
        peer.encode(texts, prompt=prompt, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
        for prompt, (_, texts) in zip(prompts, work, strict=True)
    ])  # fmt: skip


def encode(bench: Bench, name: str) -> Iterator[dict]:
    """Tokens/s, MFU and peak memory of one kind of texts; of ours alone if the peer cannot run."""
    work, encoder = bench.works[name], bench.encoder()
    part = [(instruction, texts[:: 4 if len(texts) >= 8 else 1]) for instruction, texts in work]
    vectors, tokens, name = run_ours(encoder, part), useful_tokens(encoder, work), f"encode/{name}"
    peaks = {"ours": peak_of(bench.device, lambda: run_ours(encoder, part))}
    sides, check, peer_name = {"ours": lambda: run_ours(encoder, work)}, f"{tokens:,} tokens", ""
    try:
        peer = bench.peer()
        tried = {size: timed(lambda s=size: run_peer(peer, part, s)) for size in bench.size.peer_batches}
        best = min(tried, key=tried.get)
        least = float((vectors * run_peer(peer, part, best)).sum(1).min())
        peaks["peer"] = peak_of(bench.device, lambda: run_peer(peer, part, best))
        sides["peer"] = lambda: run_peer(peer, work, best)
        attention = peer[0].model.config._attn_implementation
        peer_name = f"SentenceTransformer.encode, batch {best}, {attention}"
        check += f", least cosine {least:.5f}"
    except NotHere as error:
        check += f", no peer: {error}"
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        check += ", no peer: it was out of memory"
    seconds = in_turn(sides, bench.size.rounds)
    ours, theirs = (tokens / seconds[s] if s in seconds else None for s in ("ours", "peer"))
    yield row(name, ours, theirs, peer_name, "tokens/s", check)
    yield shares(name, 2, bench, ours, theirs, peer_name)
    yield memories(name, peaks["ours"], peaks.get("peer"), peer_name, bench.device)


def timed(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


# -- one contrastive step ------------------------------------------------------------------------


def step(bench: Bench) -> Iterator[dict]:
    """One step with the paper's settings; ours is on disk before the peer begins."""
    corpus = bench.triplets(bench.size.batch)
    seconds, (loss, tokens), peak = one_step(bench, bench.stepper(corpus), corpus)
    hours = EXAMPLES / len(corpus) * seconds / 3600
    check = (
        f"{len(corpus):,} triplets, {tokens:,} tokens, {seconds:.1f} s; checkpointing on, "
        f"{bench.size.chunk_tokens:,} tokens a chunk; loss {loss:.4f}; "
        f"1.8M such triplets: {hours:,.1f} hours (the paper's: 18 on 32 V100)"
    )
    ours, name = tokens / seconds, f"{PEER_LOSS}, mini-batches of {bench.size.peer_tokens:,} tokens"
    yield from _rows(bench, ours, None, "", f"{check}; the peer did not come to its end", (peak, None))
    try:
        theirs = peer_step(bench)
        theirs(corpus[:WARM])
        seconds, loss, peer_peak = one_step(bench, theirs, corpus)
    except (NotHere, RuntimeError) as error:
        if not isinstance(error, NotHere) and not is_out_of_memory(error):
            raise
        why = str(error) if isinstance(error, NotHere) else "it was out of memory"
        yield from _rows(bench, ours, None, "", f"{check}; no peer: {why}", (peak, None))
        return
    check += f"; the peer's loss {loss:.4f}"
    yield from _rows(bench, ours, tokens / seconds, name, check, (peak, peer_peak))


def one_step(bench: Bench, step: Callable, corpus: list) -> tuple[float, object, float]:
    """Seconds, what the step returns, peak GB."""
    found: list = []

    def run() -> None:
        start = perf_counter()
        result = step(corpus)
        found.extend([perf_counter() - start, result])

    peak = peak_of(bench.device, run)
    return *found, peak


def _rows(
    bench: Bench, ours: float, peer: float | None, name: str, check: str, peaks: tuple
) -> Iterator[dict]:
    yield row("train", ours, peer, name, "tokens/s", check)
    yield memories("train", *peaks, name, bench.device)
    yield shares("train", 4, bench, ours, peer, name)


def peer_step(bench: Bench):
    """A step of sentence-transformers' cached loss: the same LoRA on the same weights and triplets."""
    from peft import LoraConfig
    from synthembed.profile.settings import Lora, Train

    model = bench.peer()
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.util import batch_to_device

    lora, train = Lora(), Train()
    model.add_adapter(LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", target_modules=lora.targets,
        task_type="FEATURE_EXTRACTION",
    ))  # fmt: skip
    model.train()
    loss_of = losses.CachedMultipleNegativesRankingLoss(
        model, scale=1 / train.temperature, mini_batch_num_tokens=bench.size.peer_tokens
    )
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)

    def run(corpus: list) -> float:
        columns = [
            [query_text(e, "natural") for e in corpus],
            [e.positive for e in corpus],
            [e.negative for e in corpus],
        ]
        features = [batch_to_device(model.preprocess(texts), bench.device) for texts in columns]
        with torch.autocast(bench.device.type, bench.dtype, enabled=bench.dtype != torch.float32):
            loss = loss_of(features, None)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        finish(bench.device)
        return loss.item()

    return run
