"""Contrastive training beside sentence-transformers: speed, peak memory, and the bound.

Every side runs in a process of its own, so that its memory is its own; the processes live side by
side and take steps in turn. All train the same LoRA on the same triplets: forward, backward,
optimiser, tokenisation included. The learning rate is zero, so the loss of every step must agree.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from synthembed import profile as profiles
from synthembed.ground.files import ROOT
from synthembed.model.cpu import onednn_linear

from benchmarks.measure import row

LORA = {"rank": 16, "alpha": 32, "dropout": 0.1}  # on all linear layers, the profile's default
TEMPERATURE = 0.02


@dataclass(frozen=True)
class Size:
    """What is measured: layers of the laptop's base, tokens a text, batches, timed steps.

    ``graph_tokens`` keeps the memory beside the cached peer at the peer's; beside the plain loss and the
    bound, ``plain_graph_tokens`` keeps every graph, as plain backward does.
    """

    layers: int = 4
    max_length: int = 64
    batches: tuple[int, int] = (96, 256)
    plain: int = 96  # the largest of them that the plain loss holds
    steps: int = 5
    chunk_tokens: int = 2_048
    graph_tokens: int = 4_096
    plain_graph_tokens: int = 16_384
    peers: tuple[str, ...] = ("size=8", "size=16", "size=32", "tokens=1024", "tokens=2048", "tokens=4096")
    flat: tuple[int, ...] = (256, 1024, 4096)


TINY = Size(2, 32, (8, 12), 8, 2, 256, 512, 2_048, ("size=4", "tokens=256"), (8, 16))


def run(size: Size = Size()) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), max(*size.batches, *size.flat), size)
        compared = [*cached(size, folder), plain(size, folder), rounded(size, folder)]
        return [*compared, *bound(size, folder), flat(size, folder)]


# -- the parent: which sides, in turn ------------------------------------------------------------


class Side:
    """A process that takes a training step whenever it is asked to."""

    def __init__(self, folder: str, kind: str, batch: int, size: Size, **options):
        task = {"folder": folder, "kind": kind, "batch": batch, "size": size.__dict__, **options}
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.kind, self.batch, self.steps, self.said = kind, batch, [], tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.train", json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True, cwd=ROOT, env=environment,
        )  # fmt: skip

    def step(self) -> dict:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                self.steps.append(json.loads(line))
                return self.steps[-1]
        code = self.process.wait()
        self.said.seek(0)
        raise RuntimeError(f"the side {self.kind!r} ended with exit code {code}: {self.said.read()[-2000:]}")

    def median(self, key: str = "seconds") -> float:
        """Over the steps after the first, which warms up."""
        return statistics.median(s[key] for s in self.steps[1:])

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def in_turn(sides: list[Side], steps: int) -> list[Side]:
    for _ in range(steps + 1):
        for side in sides:
            side.step()
    for side in sides:
        side.close()
    return sides


def cached(size: Size, folder: str) -> list[dict]:
    """Ours beside the peer's cached loss at its fastest setting; speed at the larger batch, memory."""
    trials = [in_turn([Side(folder, f"peer {p}", size.batches[0], size)], 1)[0] for p in size.peers]
    best = min(trials, key=Side.median).kind
    found = {
        batch: in_turn([Side(folder, kind, batch, size) for kind in ("ours", best)], size.steps)
        for batch in size.batches
    }
    ours, peer = found[size.batches[1]]
    name = f"sentence-transformers CachedMultipleNegativesRankingLoss, mini_batch {peer.kind.removeprefix('peer ')}"
    small, small_peer = found[size.batches[0]]
    ratio = small_peer.median() / small.median()
    check = f"batch {ours.batch}; {_losses(ours, peer)}; at batch {small.batch} {ratio:.2f}x, {_losses(small, small_peer)}"
    speed = row(
        "train/cached", ours.batch / ours.median(), peer.batch / peer.median(), name, "examples/s", check
    )
    memory = row(
        "train/memory", _peak(ours), _peak(peer), name, "GB, peak of the process", f"batch {ours.batch}"
    )
    return [speed, memory | {"ratio": _peak(peer) / _peak(ours)}]


def plain(size: Size, folder: str) -> dict:
    size = replace(size, graph_tokens=size.plain_graph_tokens)
    sides = [Side(folder, kind, size.plain, size) for kind in ("ours", "plain")]
    ours, peer = in_turn(sides, size.steps)
    check = f"batch {ours.batch}; {_losses(ours, peer)}; peak {_peak(ours):.1f} against {_peak(peer):.1f} GB"
    name = "sentence-transformers MultipleNegativesRankingLoss"
    return row(
        "train/plain", ours.batch / ours.median(), peer.batch / peer.median(), name, "examples/s", check
    )


def rounded(size: Size, folder: str) -> dict:
    """Frozen weights in bfloat16, where they are chosen here, beside our own float32."""
    ours, whole = in_turn(
        [Side(folder, kind, size.batches[0], size) for kind in ("ours", "exact")], size.steps
    )
    check = f"batch {ours.batch}; {_losses(ours, whole)}"
    rates = (ours.batch / ours.median(), whole.batch / whole.median())
    return row("train/bfloat16", *rates, "our own float32", "examples/s", check)


def bound(size: Size, folder: str) -> list[dict]:
    """Tokens/s on texts of one length against what 4N and a matrix-product rate of the run allow: of
    torch's own product, of the fastest in float32 that torch carries, and of bfloat16's if weights are
    rounded to it."""
    size = replace(size, graph_tokens=size.plain_graph_tokens)
    (side,) = in_turn([Side(folder, "ours", size.batches[0], size, equal=True)], size.steps)
    ours = statistics.median(s["tokens"] / s["seconds"] for s in side.steps[1:])
    check = f"batch {side.batch}, every text cut at the same length"
    sides = {"bound": ("train/bound", "torch.matmul's rate / 4N")}
    if onednn_linear.use_onednn():
        sides["fastest"] = ("train/bound-onednn", "oneDNN's rate / 4N")
    if "rounded" in side.steps[-1]:
        sides["rounded"] = ("train/bound-bfloat16", "oneDNN's rate in bfloat16 / 4N")
    return [row(n, ours, side.median(k), peer, "tokens/s", check) for k, (n, peer) in sides.items()]


def flat(size: Size, folder: str) -> dict:
    """Peak memory of two steps at one budget, from the smallest batch to the largest; two layers, short
    texts."""
    short = replace(size, layers=2, max_length=min(32, size.max_length))
    peaks = {b: _peak(*in_turn([Side(folder, "ours", b, short)], 1)) for b in size.flat}
    everything = replace(short, graph_tokens=10**9)
    kept = {b: _peak(*in_turn([Side(folder, "ours", b, everything)], 1)) for b in size.flat[:2]}
    from synthembed.report import figures

    figures.save(figures.memory_by_batch(peaks, kept), ROOT / "results" / "bench", "train_memory")
    check = ", ".join(f"{p:.2f} GB at {b:,}" for b, p in peaks.items())
    first, last = peaks[size.flat[0]], peaks[size.flat[-1]]
    measured = row(
        "train/flat", last, first, f"the same at batch {size.flat[0]}", "GB, peak of the process", check
    )
    return measured | {"ratio": first / last}


def _losses(ours: Side, peer: Side) -> str:
    """The check that both did the same: the largest difference of the loss, step by step."""
    off = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(ours.steps, peer.steps, strict=True))
    if off > 1e-3:
        raise AssertionError(f"{ours.kind} and {peer.kind}: the losses differ by {off:.2%}")
    return f"losses agree to {max(off, 1e-7):.1e}"


def _peak(side: Side) -> float:
    return side.steps[-1]["peak_gb"]


# -- a side: its own process ---------------------------------------------------------------------


def write_corpus(folder: Path, count: int, size: Size) -> None:
    """Distinct triplets of mixed length, and the base as a sentence-transformers folder.

    Recorded examples; beyond their number, the same with their words in another order.
    """
    from synthembed.corpus import example, example_files
    from synthembed.generation import two_steps
    from synthembed.model import backbone, export

    plan = profiles.load("laptop")
    two_steps.generate(plan, folder)
    items = two_steps.read_items(folder)
    replies = example_files.from_replies(folder / "replies.jsonl", items, example.Drops())
    found = [e for e in replies if e.negative]
    random.Random(0).shuffle(found)
    chosen, seen = [], set()
    for number in range(10 * count):
        if len(chosen) == count:
            break
        base, rng = found[number % len(found)], random.Random(number)
        texts = {k: getattr(base, k) for k in ("query", "positive", "negative")}
        if number >= len(found):
            texts = {k: " ".join(rng.sample(t.split(), len(t.split()))) for k, t in texts.items()}
        if len(set(texts.values())) == 3 and not seen & set(texts.values()):
            seen |= set(texts.values())
            chosen.append(replace(base, id=str(number), **texts))
    example_files.write(folder / "triplets.jsonl", chosen)
    for layers in {size.layers, 2}:
        base = backbone.load(plan.backbone.model_copy(update={"layers": layers}))
        export.export(base, folder / f"base-{layers}", "last", "natural", "", size.max_length)


def serve(task: dict) -> None:
    """Take a step for every line of the standard input; print its seconds, loss, tokens and peak memory."""
    import torch
    from synthembed.corpus import example_files
    from synthembed.ground.hardware import peak_memory

    corpus = example_files.read(Path(task["folder"]) / "triplets.jsonl")
    step = (ours if task["kind"] in ("ours", "exact") else peer)(task, Size(**task["size"]), corpus)
    for _ in sys.stdin:
        start = time.monotonic()
        loss, facts = step()
        line = {"seconds": time.monotonic() - start, "loss": loss, **facts()}
        print(json.dumps(line | {"peak_gb": peak_memory(torch.device("cpu"))}), flush=True)


def ours(task: dict, size: Size, corpus: list):
    import torch
    from synthembed.model import backbone
    from synthembed.model.cpu import bfloat16_linear
    from synthembed.model.cpu.rate import matrix_rate, rate_for
    from synthembed.training import train
    from synthembed.training.batches import Batch

    length = size.max_length // 4 if task.get("equal") else size.max_length
    settings = profiles.Profile(name="bench").with_overrides({
        "backbone.model": f"{task['folder']}/base-{size.layers}", "train.temperature": TEMPERATURE,
        "train.max_length": length, "train.mask_known_positives": False,
        "train.chunk_tokens": size.chunk_tokens, "train.graph_tokens": size.graph_tokens,
        "backbone.dtype": "float32" if task["kind"] == "exact" else "auto",
        "train.gradient_checkpointing": False, **{f"lora.{k}": v for k, v in LORA.items()},
    })  # fmt: skip
    base = backbone.load(settings.backbone)
    operations = 4 * base.matrix_parameters()
    if task.get("equal"):
        corpus = [e for e in corpus if _all_cut(e, base.contract, length)]
    corpus = corpus[: task["batch"]]
    assert len(corpus) == task["batch"], f"only {len(corpus)} triplets of {length} tokens a text"
    model, trainable = train.prepare(settings, base)
    optimiser = torch.optim.AdamW(trainable.values(), lr=0.0)

    def step():
        batch = Batch(corpus, model, settings.train)
        loss, _ = train.gradients(settings, model, batch, settings.train, trainable)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

        def facts() -> dict:
            if not task.get("equal"):
                return {"tokens": batch.tokens}
            own, fastest = (matrix_rate(model.device, 1.0, fastest=f) / operations for f in (False, True))
            found = {"tokens": batch.tokens, "bound": own, "fastest": fastest}
            if bfloat16_linear.is_used_in(model.model):
                found["rounded"] = rate_for(model.model) / operations
            return found

        return loss, facts

    return step


def _all_cut(example, contract, length: int) -> bool:
    from synthembed.model.instructions import query_text

    texts = [query_text(example, "natural"), example.positive, example.negative]
    return all(len(row) == length + 1 for row in contract.ids(texts, length + 1))


def peer(task: dict, size: Size, corpus: list):
    """sentence-transformers' losses: kind is "plain", "peer size=N" or "peer tokens=N"."""
    import torch
    from peft import LoraConfig
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses
    from synthembed.model.instructions import query_text

    model = SentenceTransformer(f"{task['folder']}/base-{size.layers}", device="cpu")
    model.max_seq_length = size.max_length
    model.add_adapter(LoraConfig(
        r=LORA["rank"], lora_alpha=LORA["alpha"], lora_dropout=LORA["dropout"], bias="none",
        target_modules=profiles.Lora().targets, task_type="FEATURE_EXTRACTION",
    ))  # fmt: skip
    model.train()
    if task["kind"] == "plain":
        loss_of = losses.MultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE)
    else:
        by, _, value = task["kind"].removeprefix("peer ").partition("=")
        options = {"mini_batch_size": int(value)} if by == "size" else {"mini_batch_num_tokens": int(value)}
        loss_of = losses.CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, **options)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)
    corpus = corpus[: task["batch"]]
    columns = [
        [query_text(e, "natural") for e in corpus],
        [e.positive for e in corpus],
        [e.negative for e in corpus],
    ]

    def step():
        loss = loss_of([model.preprocess(texts) for texts in columns], None)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item(), dict

    return step


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
