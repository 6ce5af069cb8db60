"""How much of a batch is in memory at a time, found before step 1 by trying the heaviest batch.

A chunk is what runs at once; kept graphs save the second run. Where both do not fit they shrink,
and gradient checkpointing (a third run) comes on only if one longest text does not fit. Where they fit and
``train.grow_graphs`` is set, graphs are kept as far as a GPU's free memory goes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from synthembed.corpus.example import Example
from synthembed.ground.hardware import is_out_of_memory, release
from synthembed.ground.seeding import seed_of
from synthembed.model.backbone import Backbone
from synthembed.model.instructions import query_text
from synthembed.profile.settings import Profile, Train
from synthembed.training import workers
from synthembed.training.batches import Batch, TrainingError, schedule, steps_of
from synthembed.training.contrastive import cached_backward


def budgets_of(settings: Train) -> dict:
    """The settings that ``fit`` may change; a checkpoint carries them, so a resumed run repeats them."""
    names = ("chunk_tokens", "graph_tokens", "gradient_checkpointing")
    return {name: getattr(settings, name) for name in names}


def fit(
    profile: Profile,
    model: Backbone,
    corpus: list[Example],
    vectors_of: Callable[[Backbone, list], torch.Tensor],
    before: dict,
) -> Train:
    """``profile.train`` with budgets that fit, or those found before a run was interrupted.

    Raises TrainingError if not even one longest text fits with gradient checkpointing.
    """
    settings = profile.train
    if before:
        settings = settings.model_copy(update=before)
        set_checkpointing(model, settings.gradient_checkpointing is True)
        return settings
    if settings.gradient_checkpointing == "auto":
        settings = settings.model_copy(update={"gradient_checkpointing": False})
    if not settings.try_longest_first:
        return settings
    step = heaviest(settings, corpus, profile.seed)
    chosen = schedule(settings, corpus, profile.seed)(step)
    while True:
        batch = Batch(chosen, model, settings, seed_of(profile.seed, "trial"), workers.world())
        short = _out_of_memory(lambda b=batch, s=settings: _try(model, b, s, vectors_of))
        if short and settings.sharded and workers.world() > 1:
            raise TrainingError(  # the other workers wait for this one in the middle of a layer
                "out of memory on the heaviest batch of a sharded run: lower train.chunk_tokens and "
                f"train.graph_tokens, now {settings.chunk_tokens:,} and {settings.graph_tokens:,}"
            )
        if not workers.largest(float(short), model.device):
            return grown(settings, batch, model, vectors_of) if settings.grow_graphs else settings
        longest = max(len(row) for chunk in batch.chunks for row in chunk)
        settings = smaller(settings, longest, profile.train)
        set_checkpointing(model, settings.gradient_checkpointing is True)
        if workers.rank() == 0:
            print(f"out of memory on the heaviest batch: trying {budgets_of(settings)}", flush=True)


def smaller(settings: Train, longest: int, asked: Train) -> Train:
    """The next settings to try: half the budgets, down to one text of ``longest`` tokens at a time
    and no kept graphs; then gradient checkpointing, which leaves room for the chunks ``asked`` for."""
    if settings.chunk_tokens > longest or settings.graph_tokens:
        chunk = max(longest, settings.chunk_tokens // 2)
        kept = settings.graph_tokens // 2 if settings.graph_tokens // 2 >= chunk else 0
        return settings.model_copy(update={"chunk_tokens": chunk, "graph_tokens": kept})
    if asked.gradient_checkpointing == "auto" and not settings.gradient_checkpointing:
        return settings.model_copy(
            update={"gradient_checkpointing": True, "chunk_tokens": max(longest, asked.chunk_tokens)}
        )
    raise TrainingError(
        f"one text of {longest} tokens does not fit in memory: lower train.max_length, use "
        'train.gradient_checkpointing "auto", train.method qlora, or train.sharded with more workers'
    )


def grown(settings: Train, batch: Batch, model: Backbone, vectors_of) -> Train:
    """``settings`` with ``graph_tokens`` grown into the memory that the heaviest batch leaves free on every worker.

    What a token's graph takes is measured, as the peak with one more chunk kept; the growth is then tried like
    any budget, and halved until it fits. Every graph kept saves one run of its chunk: 4N operations a token
    with a frozen base instead of 6N, or 6N instead of 8N with gradient checkpointing.
    """
    kept, one_more = settings.graph_tokens, settings.graph_tokens + settings.chunk_tokens

    def keeping(tokens: int) -> Train:
        return settings.model_copy(update={"graph_tokens": tokens})

    def peak(tokens: int) -> int:
        return _peak(lambda: _try(model, batch, keeping(tokens), vectors_of), model.device)

    before, after = peak(kept), peak(one_more)
    tokens = kept
    if 0 < before < after:
        room = (_usable(model.device) - before) * settings.chunk_tokens / (after - before)
        tokens = min(kept + int(room), sum(map(batch.size_of, batch.chunks[batch.share(workers.rank())])))
    tokens = int(-workers.largest(-float(tokens), model.device))  # what every worker has room for
    while tokens >= one_more:
        short = _out_of_memory(lambda t=tokens: _try(model, batch, keeping(t), vectors_of))
        if not workers.largest(float(short), model.device):
            if workers.rank() == 0:
                print(f"free memory keeps the graphs of {tokens:,} tokens (asked for: {kept:,})", flush=True)
            return keeping(tokens)
        tokens = kept + (tokens - kept) // 2
    return settings


def heaviest(settings: Train, corpus: list[Example], seed: int) -> int:
    """The step whose batch has most characters, each text cut where max_length may cut it."""
    batch_of, most = schedule(settings, corpus, seed), 8  # characters a token, at most

    def weight(e: Example) -> int:
        query = min(len(query_text(e, settings.instruction)), most * settings.max_length)
        return query + sum(
            min(len(d), most * settings.document_length) for d in (e.positive, e.negative or "")
        )

    return max(range(steps_of(settings, corpus)), key=lambda step: sum(map(weight, batch_of(step))))


def _try(model: Backbone, batch: Batch, settings: Train, vectors_of) -> None:
    """The peak of a step: all graphs that are kept, and one chunk more. Its gradients are dropped."""
    share, keep = batch.share(workers.rank()), batch.keep(settings.graph_tokens)
    chunks = batch.chunks[share][: keep + 1]
    try:
        cached_backward(lambda rows: vectors_of(model, rows), chunks, lambda v: (v.square().mean(), {}), keep)
    finally:
        model.model.zero_grad(set_to_none=True)


def _peak(attempt: Callable[[], None], on: torch.device) -> int:
    """Bytes of tensors that live at once in ``attempt``; 0 where there is no GPU, or too little memory."""
    if on.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(on)
    return 0 if _out_of_memory(attempt) else torch.cuda.max_memory_allocated(on)


def _usable(on: torch.device) -> float:
    """Bytes that this process may have of a GPU, a twentieth left free for what fragments."""
    return 0.95 * (torch.cuda.mem_get_info(on)[0] + torch.cuda.memory_reserved(on))


def _out_of_memory(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return False
    release()  # the failed pass's tensors, now that its traceback is gone
    return True


def set_checkpointing(model: Backbone, on: bool) -> None:
    """Gradient checkpointing: only each layer's input is kept, and the layer runs again (App. A)."""
    if on:
        model.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    elif any(layer.gradient_checkpointing for layer in layers_of(model.model)):
        model.model.gradient_checkpointing_disable()


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The decoder's layers: what is run again, and what is sharded, as a unit."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
