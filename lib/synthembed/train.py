"""Contrastive LoRA fine-tuning (Sec. 3.2, 4.2, App. A): the loop, one screen to read.

Everything random in step n is a function of (seed, n): the batch, the dropout. A checkpoint is
therefore the adapter, the optimiser and a number, and a resumed run repeats an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from . import backbone as backbones
from .backbone import Backbone
from .contrastive import cached_backward, excluded_pairs, info_nce
from .encoder import budget_batches, pad, pool, with_instruction
from .examples import Example
from .profile import Profile, Train
from .progress import Progress
from .taxonomy import seed_of

# Table 5, "w/ task type prefix": one fixed word in place of the instruction.
TASK_TYPE_PREFIX = {"long-short": "classify: ", "sts": "", "bitext": ""}


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what to do."""


def query_text(example: Example, kind: str) -> str:
    """The query side as the model reads it: instruction, task-type prefix, or bare (Table 5)."""
    if kind == "natural":
        return with_instruction(example.instruction, example.query)
    if kind == "task-type":
        return TASK_TYPE_PREFIX.get(example.family, "query: ") + example.query
    return example.query


def steps_of(settings: Train, examples: int) -> int:
    """Optimiser steps of a run; a last batch that is not full is left out of each epoch."""
    steps = max(1, int(examples // settings.batch_size * settings.epochs))
    return min(steps, settings.max_steps or steps)


def batch_of(examples: list[Example], settings: Train, seed: int, step: int) -> list[Example]:
    """The examples of ``step``: batch k of a permutation drawn anew for each epoch."""
    size = min(settings.batch_size, len(examples))
    per_epoch = len(examples) // size
    epoch, number = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(seed_of(seed, "epoch", epoch))
    order = torch.randperm(len(examples), generator=generator)[number * size : (number + 1) * size]
    return [examples[i] for i in order.tolist()]


def learning_rate(settings: Train, step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to zero (App. A); warm-up is at most a fifth of a short run."""
    warmup = min(settings.warmup_steps, steps // 5)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * (steps - step) / max(1, steps - warmup)


class Batch:
    """Texts of one step as rows of ids, each distinct text once, in chunks cut by token budget."""

    def __init__(self, examples: list[Example], backbone: Backbone, settings: Train):
        queries = [query_text(e, settings.instruction) for e in examples]
        negatives = [e.negative for e in examples if e.negative and settings.hard_negatives]
        documents = list(dict.fromkeys([e.positive for e in examples] + negatives))
        texts = list(dict.fromkeys(queries + documents))
        rows = backbone.contract.ids(texts, settings.max_length)
        backbone.contract.check(rows)
        order = list(budget_batches([len(r) for r in rows], settings.chunk_tokens))
        self.chunks = [[rows[i] for i in chunk] for chunk in order]
        place = {i: n for n, i in enumerate(i for c in order for i in c)}
        at = {text: place[i] for i, text in enumerate(texts)}
        self.query_rows = torch.tensor([at[q] for q in queries])
        self.document_rows = torch.tensor([at[d] for d in documents])
        column = {d: n for n, d in enumerate(documents)}
        self.positives = torch.tensor([column[e.positive] for e in examples])
        bare = [e.query for e in examples]
        self.excluded = (
            excluded_pairs(bare, [e.positive for e in examples], documents, self.positives.tolist())
            if settings.mask_known_positives
            else None
        )
        self.tokens = sum(map(len, rows))

    def keep(self, tokens: int) -> int:
        """How many chunks may keep their graphs within a budget of padded tokens."""
        count = 0
        for chunk in self.chunks:
            tokens -= len(chunk) * len(chunk[0])
            if tokens < 0:
                break
            count += 1
        return count


def train(
    profile: Profile, backbone: Backbone, examples: list[Example], folder: Path, code: str = ""
) -> Backbone:
    """Fine-tune and return the backbone with its adapter; logs to ``folder/log.jsonl``.

    Resumes from ``folder/checkpoints`` if the same run (settings, examples, ``code``) was interrupted. Raises TrainingError on a loss
    that is not finite, naming the batch's examples, and if the adapter has not moved at the end.
    """
    settings, steps = profile.train, steps_of(profile.train, len(examples))
    if len(examples) < 2:
        raise TrainingError(f"{len(examples)} examples: contrastive training needs at least 2")
    model = backbones.add_lora(backbone, profile.lora, profile.seed)
    trainable = {n: p for n, p in model.model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(
        trainable.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    if settings.gradient_checkpointing:
        model.model.enable_input_require_grads()
        model.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.model.train()
    folder.mkdir(parents=True, exist_ok=True)
    key = run_key(profile, examples, code)
    first = resume(folder, key, trainable, optimiser)
    rate, size = matrix_rate(model.device), backbone.matrix_parameters()
    progress = Progress("training", "steps", every=15)
    started = time.monotonic()
    with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
        for step in range(first, steps):
            tick = time.monotonic()
            torch.manual_seed(seed_of(profile.seed, "step", step))
            chosen = batch_of(examples, settings, profile.seed, step)
            batch = Batch(chosen, model, settings)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(settings, step, steps)
            loss, metrics = backward(model, batch, settings, profile.backbone.pooling)
            if not math.isfinite(loss):
                ids = " ".join(e.id for e in chosen)
                raise TrainingError(f"step {step}: the loss is {loss}; examples of the batch: {ids}")
            norm = torch.nn.utils.clip_grad_norm_(trainable.values(), settings.max_grad_norm or math.inf)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            spent = time.monotonic() - tick
            line = {"step": step + 1, "loss": loss, "lr": group["lr"], **metrics,
                    "gradient_norm": norm.item(), "tokens": batch.tokens,
                    "tokens_per_s": batch.tokens / spent, "mfu": 4 * size * batch.tokens / spent / rate,
                    "peak_memory_gb": peak_memory(model.device)}  # fmt: skip
            log.write(json.dumps(line) + "\n")
            log.flush()
            progress(step + 1 - first, steps - first, f"loss {loss:.3f}")
            if (step + 1) % settings.checkpoint_every == 0 and step + 1 < steps:
                save(folder, key, trainable, optimiser, step + 1)
    check_moved(trainable)
    print(f"{steps - first} steps in {time.monotonic() - started:.0f} s")
    return Backbone(model.model.eval(), model.contract, backbone.source)


def backward(model: Backbone, batch: Batch, settings: Train, pooling: str) -> tuple[float, dict]:
    """Gradients of one batch, by gradient caching."""

    def encode(rows):
        ids, mask = pad(rows, model.contract.eos, model.device)
        hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return pool(hidden, mask, pooling)

    def loss_of(vectors):
        on = vectors.device
        excluded = None if batch.excluded is None else batch.excluded.to(on)
        return info_nce(
            vectors[batch.query_rows.to(on)], vectors[batch.document_rows.to(on)],
            batch.positives.to(on), settings.temperature, excluded,
        )  # fmt: skip

    return cached_backward(encode, batch.chunks, loss_of, batch.keep(settings.graph_tokens))


def check_moved(trainable: dict[str, torch.Tensor]) -> None:
    """lora_B starts at zero; an adapter whose lora_B is still zero changes nothing."""
    if not any(p.abs().max() > 0 for n, p in trainable.items() if "lora_B" in n):
        raise TrainingError("the adapter has not moved: every lora_B is still zero after training")


def save(folder: Path, key: str, trainable, optimiser, step: int) -> None:
    """An atomic checkpoint: adapter and AdamW moments in one safetensors file. The last two are kept."""
    tensors = {}
    for name, parameter in trainable.items():
        tensors[name] = parameter.detach()
        for moment, value in optimiser.state[parameter].items():
            tensors[f"{name}//{moment}"] = value
    target = folder / "checkpoints" / f"step-{step:06d}.safetensors"
    target.parent.mkdir(exist_ok=True)
    partial = target.with_suffix(".partial")
    save_file(tensors, partial, {"step": str(step), "run": key})
    os.replace(partial, target)
    for old in sorted(target.parent.glob("step-*.safetensors"))[:-2]:
        old.unlink()


def resume(folder: Path, key: str, trainable, optimiser) -> int:
    """Restore the newest checkpoint of this very run; returns the step to go on from (0 if none)."""
    from safetensors import SafetensorError, safe_open

    for path in sorted((folder / "checkpoints").glob("step-*.safetensors"), reverse=True):
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata()
            tensors = load_file(path)
        except SafetensorError as error:
            print(f"{path.name} is damaged ({error}); trying the one before it")
            continue
        step = int(meta["step"])
        if meta["run"] != key or not _truncate_log(folder / "log.jsonl", step):
            shutil.rmtree(folder / "checkpoints")
            break
        for name, parameter in trainable.items():
            parameter.data.copy_(tensors[name])
            prefix = f"{name}//"
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            optimiser.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device) for k, v in state.items()
            }
        print(f"resuming after step {step}")
        return step
    (folder / "log.jsonl").unlink(missing_ok=True)
    return 0


def run_key(profile: Profile, examples: list[Example], code: str) -> str:
    """What a run is made from; checkpoints of another run are never resumed."""
    parts = [profile.hash("seed", "backbone", "lora", "train"), code]
    digest = hashlib.sha256("/".join(parts).encode())
    for example in examples:
        digest.update(repr(example).encode())
    return digest.hexdigest()[:16]


def _truncate_log(path: Path, step: int) -> bool:
    """Cut the log after ``step`` lines; False if it does not hold that many."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if len(lines) < step:
        return False
    path.write_text("".join(lines[:step]), encoding="utf-8")
    return True


def matrix_rate(on: torch.device, seconds: float = 0.3) -> float:
    """Multiply-add operations per second of a large matrix product: the bound for MFU."""
    size = 4096 if on.type == "cuda" else 1024
    kind = torch.bfloat16 if on.type == "cuda" else torch.float32
    a = torch.randn(size, size, device=on, dtype=kind)
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        (a @ a)[0, 0].item()
        count += 1
    return 2 * size**3 * count / (time.monotonic() - start)


def peak_memory(on: torch.device) -> float:
    """Peak GB so far: of the GPU, or of this process."""
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
