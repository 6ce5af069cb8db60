"""Encoding and training on a GPU: a Mistral-7B shape with random weights, as fast as a trained one.

Encoding beside sentence-transformers (flash attention where it is installed) and, where it is
installed, vLLM's pooling mode; training as the paper has it, beside what 4N and the matrix-product
rate allow. Without a GPU nothing is measured; tests run the harness at tiny size.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from synthembed import profile
from synthembed.corpus.example import Example
from synthembed.ground import embedded, hardware
from synthembed.ground.hardware import peak_memory
from synthembed.model import backbone, export
from synthembed.model.backbone import Backbone
from synthembed.model.rate import matrix_rate
from synthembed.model.tokens import TokenContract
from synthembed.training import memory_budget, train
from synthembed.training.batches import Batch
from transformers import AutoModel, AutoTokenizer, MistralConfig

from benchmarks import encode
from benchmarks.measure import in_turn, row

BATCH = 2_048  # App. A
MISTRAL_7B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 32768, "sliding_window": 4096,
}  # fmt: skip


def run(shape: dict | None = None, scale: float = 1.0) -> list[dict]:
    """All rows, their names with "gpu/" before; none on a machine without a GPU, unless a ``shape`` is given."""
    if shape is None and not torch.cuda.is_available():
        print("gpu: there is no GPU here, nothing was measured")
        return []
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), shape or MISTRAL_7B)
        works = encode.scaled(encode.workloads(), scale)
        rows = [r for name, work in works.items() for r in encode.compare(name, work, folder)]
        rows += [with_vllm(name, work, folder) for name, work in works.items() if has_vllm()]
        rows.append(training(folder, max(4, int(scale * BATCH))))
    return [r | {"name": f"gpu/{r['name']}"} for r in rows]


def training(folder: str, batch: int, steps: int = 3) -> dict:
    """Steps of LoRA (rank 16, all projections) on triplets of up to 512 tokens, gradients cached."""
    rng = random.Random(0)
    pieces = [text for _, texts in encode.workloads()["encode/documents"] for text in texts]
    draw = lambda n: encode.of_words(rng.randint(n // 8, n), pieces, rng)  # noqa: E731
    corpus = [
        Example(
            str(n), "short-long", "Find what answers the question", "en", "", draw(32), draw(360), draw(360)
        )
        for n in range(batch)
    ]
    plan = profile.Profile(name="bench").with_overrides(
        {"backbone.model": folder, "train.batch_size": batch, "train.gradient_checkpointing": "auto"}
    )
    base = backbone.load(plan.backbone)
    size, on = base.matrix_parameters(), base.device
    model, trainable = train.prepare(plan, base)
    settings = memory_budget.fit(plan, model, corpus, train.vectors_of(plan), {})
    optimiser, seconds, rates = torch.optim.AdamW(trainable.values(), lr=0.0), [], []
    for step in range(steps + 1):
        start = time.perf_counter()
        rows = Batch(corpus, model, settings, step)
        train.gradients(plan, model, rows, settings, trainable)
        optimiser.step()
        if on.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        rates.append(matrix_rate(on, 0.5, next(base.model.parameters()).dtype))
    spent, allowed = statistics.median(seconds[1:]), statistics.median(rates) / (4 * size)
    hours = 1_800_000 / batch * spent / 3600
    return row(
        "train", rows.tokens / spent, allowed, "matrix-product rate / 4N", "tokens/s",
        f"batch {batch:,}, {memory_budget.budgets_of(settings)}, peak {peak_memory(on):.1f} GB; the paper's 1.8M examples "
        f"would take {hours:,.1f} hours here (18 on 32 V100 there)",
    )  # fmt: skip


def save(folder: Path, shape: dict) -> None:
    """A model of that shape with random weights and the embedded base's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(embedded.folder_of(profile.load("laptop").backbone.model))
    on = hardware.device()
    config = MistralConfig(vocab_size=len(tokenizer), **shape)
    torch.manual_seed(0)
    with torch.device(on):
        model = AutoModel.from_config(config, dtype=hardware.dtype_of("auto", on))
    made = Backbone(model.eval(), TokenContract.of(tokenizer), {"model": "random"})
    export.export(made, folder, "last", "natural", "", encode.MAX_LENGTH)


def has_vllm() -> bool:
    import importlib.util

    return torch.cuda.is_available() and importlib.util.find_spec("vllm") is not None


def with_vllm(name: str, work: encode.Work, folder: str) -> dict:
    """vLLM reads the same ids, so that both sides embed the same tokens."""
    import vllm

    encoder = encode.ours(folder)
    rows = [encoder.rows(texts, instruction) for instruction, texts in work]
    engine = vllm.LLM(folder, runner="pooling", max_model_len=encode.MAX_LENGTH, gpu_memory_utilization=0.45)
    prompts = [{"prompt_token_ids": ids} for of_task in rows for ids in of_task]

    def theirs() -> np.ndarray:
        return np.array([out.outputs.embedding for out in engine.embed(prompts, use_tqdm=False)])

    ours = np.concatenate(encode.run_ours(encoder, work))
    least = float((ours * theirs()).sum(1).min())
    seconds = in_turn({"ours": lambda: encode.run_ours(encoder, work), "peer": theirs})
    return row(
        f"{name}/vllm", len(prompts) / seconds["ours"], len(prompts) / seconds["peer"],
        f"vLLM {vllm.__version__}, pooling", "texts/s", f"least cosine {least:.5f}",
    )  # fmt: skip
