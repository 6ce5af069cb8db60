"""Contrastive fine-tuning (Sec. 3.2, 4.2, App. A): the loop, one screen to read.

Everything random in step n is a function of (seed, n): the batch, the dropout. A checkpoint is
therefore the trained weights, the optimiser and a number, and a resumed run repeats an uninterrupted
one. The same loop runs alone and as one of several workers: ``python -m synthembed.training.train FOLDER``
under torchrun is what ``train`` starts if the profile asks for workers, and ``worker`` what Ray calls in
each of its processes if it has a cluster.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from synthembed.corpus import example_files
from synthembed.corpus.example import Example
from synthembed.ground import hardware
from synthembed.ground.console import Progress
from synthembed.ground.files import write_json
from synthembed.ground.hardware import peak_memory
from synthembed.ground.seeding import seed_of
from synthembed.labelled import weak_pairs
from synthembed.model import adapter, packed_rows
from synthembed.model import backbone as backbones
from synthembed.model.backbone import Backbone
from synthembed.model.cpu.rate import rate_for
from synthembed.model.encoder import row_vectors
from synthembed.model.instructions import query_text
from synthembed.profile.settings import Profile, Train
from synthembed.training import batches, checkpoints, memory_budget, trackers, workers
from synthembed.training.batches import Batch, TrainingError, schedule, steps_of
from synthembed.training.checkpoints import run_key
from synthembed.training.contrastive import cached_backward, info_nce
from synthembed.training.later import losses_after

__all__ = ["TrainingError", "backward", "fine_tune", "query_text", "run_key", "steps_of", "train"]

# By name, since where work is placed moves no number: fingerprints.code_of follows import statements.
_session = import_module("synthembed.cluster.session")
Watch = Callable[[int, Backbone, Path], None]
FP16_LARGEST = (1.0, 2.0**-6, 2.0**-12)  # largest element of the vectors' gradient, tried in turn


def train(
    profile: Profile,
    backbone: Backbone,
    corpus: list[Example],
    folder: Path,
    code: str = "",
    saved: Callable[[], None] = lambda: None,
    watch: Watch | None = None,
) -> Backbone:
    """What the profile asks for: pre-training (Table 7), fine-tuning, in this process or in several.

    Returns the backbone with its adapter; logs to ``folder/log.jsonl``, and resumes from
    ``folder/checkpoints`` if the same run (settings, examples, ``code``) was interrupted. Several
    workers, of this machine or of a cluster, load ``profile.backbone`` themselves; what they leave is then
    read here. ``saved`` is called after each checkpoint, by every worker; ``watch`` by the first one after every
    step of the fine-tuning with its number, the model, which it may read and must not change, and the folder that
    is saved with a checkpoint, for what it keeps. A model in shards and torchrun's workers are not watched.
    """
    if not torch.distributed.is_initialized():
        if profile.cluster:
            in_cluster(profile, backbone, corpus, folder, code, watch)
        elif profile.train.workers > 1:
            if watch:
                print("train.workers: no learning curve is scored; a cluster's workers score it", flush=True)
            in_workers(profile, backbone, corpus, folder, code)
    before: list[tuple[Profile, dict]] = []
    if profile.pretrain:
        first = profile.for_pretraining()
        weak = weak_pairs.pairs(profile.pretrain, profile.seed)
        start = fine_tune(first, backbone, weak, folder / "pretraining", code, saved=saved)
        if profile.train.method == "qlora":  # whose base in 4 bits is loaded again at the end
            before = [(first, adapter.tensors_of(start))]
        backbone = put_together(first, start) if _reads_alone(profile) else adapter.merge_lora(start)
        backbone = replace(backbone, source=start.source | {"pretrained": profile.pretrain.model_dump()})
    return fine_tune(profile, backbone, corpus, folder, code, before, saved, watch)


def fine_tune(
    profile: Profile,
    backbone: Backbone,
    corpus: list[Example],
    folder: Path,
    code: str = "",
    before: Sequence[tuple[Profile, dict]] = (),
    saved: Callable[[], None] = lambda: None,
    watch: Watch | None = None,
) -> Backbone:
    """The training loop. ``before`` are the trainings that ``backbone`` has had, each with its adapter;
    ``saved`` is called after each checkpoint. Raises TrainingError on a loss or gradient that is not finite,
    naming the batch's examples, on a batch that no setting makes fit, and if the adapter has not moved."""
    settings, main = profile.train, workers.rank() == 0
    watch = watch if main else None
    if watch and settings.sharded and workers.world() > 1:  # of whose weights the first worker has a part
        print("train.sharded: no learning curve is scored", flush=True)
        watch = None
    if len(corpus) < 2:
        raise TrainingError(f"{len(corpus)} examples: contrastive training needs at least 2")
    batch_of, steps = schedule(settings, corpus, profile.seed), steps_of(settings, corpus)
    if main:
        print(batches.said(batches.losses(settings, corpus, backbone.contract, profile.seed)), flush=True)
    size = backbone.matrix_parameters() * (6 if settings.method == "full" else 4)  # operations a token
    folder.mkdir(parents=True, exist_ok=True)
    tracks = trackers.open_all(settings.trackers, profile.name, folder) if main else []
    model, trainable = prepare(profile, backbone)
    optimiser = torch.optim.AdamW(
        trainable.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    key = run_key(profile, corpus, code)
    first, found = checkpoints.resume(folder, key, trainable, optimiser)
    if first < steps:
        settings = memory_budget.fit(profile, model, corpus, vectors_of(profile), found)
    rate = rate_for(model.model) * workers.world()
    progress, started = Progress("training", "steps", every=15), time.monotonic()
    with open(folder / "log.jsonl" if main else os.devnull, "a", encoding="utf-8") as log:

        def batch_at(step: int) -> tuple[list[Example], Batch]:
            chosen, seed = batch_of(step), seed_of(profile.seed, "step", step)
            return chosen, Batch(chosen, model, settings, seed, workers.world())

        # Ahead where the host is idle meanwhile; not with a watch, which reads texts too: a tokenizer is one thread's.
        ahead = model.device.type != "cpu" and watch is None
        made = batches.made(batch_at, range(first, steps), ahead)
        for step in range(first, steps):
            tick = time.monotonic()
            chosen, batch = next(made)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(settings, step, steps)
            loss, metrics = gradients(profile, model, batch, settings, trainable)
            if not math.isfinite(loss + metrics["gradient_norm"]):
                raise TrainingError(
                    f"step {step + 1}: the loss is {loss}, the gradient's norm {metrics['gradient_norm']}; "
                    f"examples of the batch: {' '.join(e.id for e in chosen)}"
                )
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            now = time.monotonic()
            speed, left = batch.tokens / (now - tick), (steps - step - 1) / (step + 1 - first)
            line = {"step": step + 1, "loss": loss, "lr": group["lr"], **metrics, "masked": batch.masked,
                    "tokens": batch.tokens, "tokens_per_s": speed, "mfu": size * speed / rate,
                    "peak_memory_gb": workers.largest(peak_memory(model.device), model.device),
                    "eta_s": (now - started) * left}  # fmt: skip
            log.write(json.dumps(line) + "\n")
            log.flush()
            for track in tracks:
                track(line)
            if main:
                progress(step + 1 - first, steps - first, note(line))
            if watch:
                watch(step + 1, model, folder)
            if (step + 1) % settings.checkpoint_every == 0 or step + 1 == steps:
                checkpoints.save(
                    folder, key, trainable, optimiser, step + 1, memory_budget.budgets_of(settings)
                )
                saved()
    for track in tracks:
        track(None)
    if main:
        print(f"{steps - first} steps in {time.monotonic() - started:.0f} s")
    return finish(profile, model, trainable, backbone, before)


def prepare(profile: Profile, backbone: Backbone) -> tuple[Backbone, dict[str, torch.nn.Parameter]]:
    """The model as it is trained (LoRA, on a 4-bit base, all weights; sharded), and what is trained."""
    backbone.check_length(profile.train.max_length)
    if profile.train.method == "full":
        if backbone.model.dtype in (torch.float16, torch.bfloat16):
            backbone.model.float()  # small steps would be lost in 16 bits; the products are autocast
        model = replace(backbone, model=backbone.model.requires_grad_(True))
    else:
        if profile.train.method == "qlora":
            adapter.quantise(backbone, adapter.targets_of(backbone.model, profile.lora))
        model = adapter.add_lora(backbone, profile.lora, profile.seed)
    if profile.train.sharded and workers.world() > 1:
        model = workers.shard_of_first(workers.of_first(model), memory_budget.layers_of, hardware.device())
    memory_budget.set_checkpointing(model, profile.train.gradient_checkpointing is True)
    model.model.train()
    return model, {n: p for n, p in model.model.named_parameters() if p.requires_grad}


def finish(
    profile: Profile, model: Backbone, trainable: dict, backbone: Backbone, before: Sequence = ()
) -> Backbone:
    """The trained model, ready to be merged; a 4-bit base is replaced by the base as it was, which the
    adapters of ``before`` are part of."""
    if profile.train.method != "full":
        check_moved(trainable)
    if profile.train.method == "qlora":
        plain = backbones.load(profile.backbone, profile.seed)
        for earlier, tensors in before:
            plain = adapter.merge_lora(adapter.with_tensors(plain, earlier.lora, tensors))
        model = adapter.with_tensors(plain, profile.lora, trainable)
    model.model.eval()
    return replace(model, source=backbone.source)


def vectors_of(profile: Profile):
    """``(model, rows of ids) -> vectors (rows, dim)``: the one place where training runs the model."""

    def run(model: Backbone, rows: list[list[int]]) -> torch.Tensor:
        compute = hardware.dtype_of(profile.backbone.dtype, model.device)
        padding = None if packed_rows.supports(model.model) else "right"
        with torch.autocast(model.device.type, compute, enabled=compute != torch.float32):
            return row_vectors(model, rows, profile.backbone.pooling, padding=padding)

    return run


def backward(
    model: Backbone, batch: Batch, settings: Train, run, largest: float | None = None
) -> tuple[float, dict]:
    """This worker's part of the gradients of one batch, by gradient caching; ``run`` as vectors_of."""

    def loss_of(vectors):
        if losses_after.wanted(settings):
            return losses_after.loss_of(vectors, batch, settings)
        on = vectors.device
        return info_nce(
            vectors, batch.query_rows.to(on), batch.document_rows.to(on), batch.positives.to(on),
            settings.temperature, batch.excluded, settings.symmetric,
        )  # fmt: skip

    mine = batch.share(workers.rank())
    return cached_backward(
        lambda rows: run(model, rows), batch.chunks[mine], loss_of, batch.keep(settings.graph_tokens),
        batch.seeds[mine], lambda v: workers.gather(v, batch.sizes()), largest,
    )  # fmt: skip


def gradients(profile: Profile, model: Backbone, batch: Batch, settings: Train, trainable: dict):
    """Loss and metrics of a batch; leaves its gradients, summed over the workers and clipped.

    In float16 the gradients are computed scaled; a scale that overflows is lowered and tried again,
    so no step is skipped and no state is carried along.
    """
    half = hardware.dtype_of(profile.backbone.dtype, model.device) == torch.float16
    for largest in FP16_LARGEST if half else (None,):
        for parameter in trainable.values():
            parameter.grad = None
        loss, metrics = backward(model, batch, settings, vectors_of(profile), largest)
        workers.sum_gradients(trainable.values())
        if half:
            for parameter in trainable.values():
                parameter.grad /= metrics["gradient_scale"]
        norm = torch.nn.utils.clip_grad_norm_(trainable.values(), settings.max_grad_norm or math.inf)
        metrics["gradient_norm"] = workers.whole(norm).item()
        if math.isfinite(metrics["gradient_norm"]):
            break
    return loss, metrics


def learning_rate(settings: Train, step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to zero (App. A); warm-up is at most a fifth of a short run."""
    warmup = min(settings.warmup_steps, steps // 5)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * (steps - step) / max(1, steps - warmup)


def check_moved(trainable: dict[str, torch.Tensor]) -> None:
    """lora_B starts at zero; an adapter whose lora_B is still zero changes nothing."""
    inner = {n: p for n, p in trainable.items() if "lora_B" in n}
    still = [n for n, p in inner.items() if not workers.whole(p.detach()).abs().max() > 0]
    if still:
        raise TrainingError(
            f"{'the adapter has' if len(still) == len(inner) else f'{len(still)} of {len(inner)} adapters have'} "
            f"not moved: lora_B is still zero after training, such as that of {still[0].split('.lora_B')[0]}"
        )


def note(line: dict) -> str:
    return (
        f"loss {line['loss']:.3f}, {line['tokens_per_s']:,.0f} tokens/s, MFU {line['mfu']:.0%}, "
        f"{line['peak_memory_gb']:.1f} GB"
    )


def in_workers(profile: Profile, backbone: Backbone, corpus: list[Example], folder: Path, code: str) -> None:
    """Train in fresh processes of this machine; their last checkpoint is what ``train`` goes on from."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "job.json", {"profile": profile.model_dump(mode="json"), "code": code})
    example_files.write(folder / "job-examples.jsonl", corpus)
    try:
        with hardware.on_cpu(backbone.model):
            workers.launch(
                "synthembed.training.train", [str(folder)], profile.train.workers, folder / "workers.log"
            )
    except RuntimeError as error:
        raise TrainingError(str(error)) from None
    for name in ("job.json", "job-examples.jsonl", "workers.log"):
        (folder / name).unlink()


def in_cluster(
    profile: Profile,
    backbone: Backbone,
    corpus: list[Example],
    folder: Path,
    code: str,
    watch: Watch | None = None,
) -> None:
    """Train in the workers of ``profile.cluster``, placed by Ray; their last checkpoint comes back to ``folder``.
    Raises ClusterError where Ray gives up."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = [p for part in (folder, folder / "pretraining") for p in checkpoints.files(part)]
    job = (profile.in_process(), corpus, code, watch)
    name = f"train-{run_key(profile, corpus, code)}"
    with hardware.on_cpu(backbone.model), _session.joined(profile.cluster):
        placed = import_module("synthembed.cluster.data_parallel")
        placed.run(worker, job, profile.cluster, name, folder, begin, final=(TrainingError,))


def worker(
    folder: Path,
    saved: Callable[[], None],
    profile: Profile,
    corpus: list[Example],
    code: str,
    watch: Watch | None = None,
) -> None:
    """One worker, in a group that is joined already."""
    train(profile, base_of(profile), corpus, folder, code, saved, watch)


def _reads_alone(profile: Profile) -> bool:
    """Whether the first worker alone reads the base, since every training of it is sharded."""
    runs = [profile, *([profile.for_pretraining()] if profile.pretrain else [])]
    return workers.world() > 1 and all(run.train.sharded for run in runs)


def base_of(profile: Profile) -> Backbone:
    """A worker's base; where the model is sharded the first worker alone reads it, into its CPU's memory."""
    if not _reads_alone(profile):
        return backbones.load(profile.backbone, profile.seed)
    return workers.of_first(_on_cpu(profile) if workers.rank() == 0 else None)


def _on_cpu(profile: Profile) -> Backbone:
    return backbones.load(profile.backbone, profile.seed, torch.device("cpu"))


def put_together(profile: Profile, trained: Backbone) -> Backbone:
    """What a training in shards has left, its adapter merged, as ``base_of`` gives a base: whole in the first
    worker's CPU memory, on the others without weights."""
    tensors = {
        n: workers.on_first(p.detach()) for n, p in trained.model.named_parameters() if p.requires_grad
    }
    if workers.rank():
        return workers.of_first(None)
    plain = _on_cpu(profile)
    if profile.train.method == "lora":
        return workers.of_first(adapter.merge_lora(adapter.with_tensors(plain, profile.lora, tensors)))
    with torch.no_grad():
        for name, parameter in plain.model.float().named_parameters():
            parameter.copy_(tensors[name])
    return workers.of_first(plain)


def main(folder: Path) -> None:
    """One worker, started by torchrun."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    profile, corpus = (
        Profile.model_validate(job["profile"]),
        example_files.read(folder / "job-examples.jsonl"),
    )
    workers.join()
    worker(folder, lambda: None, profile, corpus, job["code"])
    workers.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
