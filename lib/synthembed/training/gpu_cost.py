"""What a model of a shape costs on a GPU, by arithmetic alone: memory of a training step, hours of a run.

Nothing here was measured. The memory of a layer is what autograd keeps of it, which a test counts on
tensors without data; hours are operations over a data sheet's rate times a share that is assumed.
docs/gpu.md has the tables, `python -m benchmarks.gpu --project` prints them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from synthembed.paper import registry

GB = 1e9
BFLOAT16, FLOAT32, FOUR_BIT = 2, 4, 0.5  # bytes
CONTEXT = 1 * GB  # of CUDA and its libraries, outside torch's allocator; assumed


@dataclass(frozen=True)
class Shape:
    """A decoder with a gated MLP and grouped keys and values; no head."""

    hidden: int = 4096
    intermediate: int = 14336
    layers: int = 32
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    vocabulary: int = 32_000

    @property
    def projections(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of a layer's seven products: q, k, v, o, gate, up, down."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        wide = (self.hidden, self.intermediate)
        return [
            (self.hidden, q),
            (self.hidden, kv),
            (self.hidden, kv),
            (q, self.hidden),
            wide,
            wide,
            wide[::-1],
        ]

    @property
    def matrices(self) -> int:
        """N of 2N, 4N: parameters that every token is multiplied with."""
        return self.layers * sum(a * b for a, b in self.projections)

    @property
    def parameters(self) -> int:
        return self.matrices + self.vocabulary * self.hidden + (2 * self.layers + 1) * self.hidden

    def lora(self, rank: int) -> int:
        """Parameters of an adapter on all projections."""
        return self.layers * rank * sum(a + b for a, b in self.projections)

    def trained(self, method: str, rank: int) -> int:
        """Parameters that have gradients."""
        return self.parameters if method == "full" else self.lora(rank)

    def frozen(self, method: str) -> float:
        """Bytes of the weights that have none."""
        in_16 = self.parameters * BFLOAT16
        return {"full": 0, "lora": in_16, "qlora": in_16 - self.matrices * (BFLOAT16 - FOUR_BIT)}[method]


MISTRAL_7B = Shape()  # v0.1's config.json


def shape_of(config, layers: int | None) -> Shape:
    """The shape that a transformers configuration has; of an encoder without a gate the nearest one."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    return Shape(
        text.hidden_size, text.intermediate_size, layers or text.num_hidden_layers, heads,
        getattr(text, "num_key_value_heads", None) or heads,
        getattr(text, "head_dim", None) or text.hidden_size // heads, text.vocab_size,
    )  # fmt: skip


# -- memory --------------------------------------------------------------------------------------


def kept_of_a_layer(shape: Shape, rank: int = 16) -> int:
    """Bytes a token that the graph of one layer keeps: bfloat16 base, LoRA with dropout on all
    projections in float32 under autocast, flash attention.

    An adapter keeps its dropped input in 16 bits, the dropout's mask (one byte a number) and its inner
    product; a norm its input in float32 and a factor; attention q, k, v, what it gives and a sum for each
    head; the gate three arrays.
    """
    inputs = sum(a for a, _ in shape.projections)
    adapters = inputs * (BFLOAT16 + 1) + len(shape.projections) * rank * BFLOAT16
    norms = 2 * (shape.hidden + 1) * FLOAT32
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = (2 * q + 2 * kv) * BFLOAT16 + shape.heads * FLOAT32
    return adapters + norms + attention + 3 * shape.intermediate * BFLOAT16


def kept_of_a_token(shape: Shape, rank: int = 16, checkpointing: bool = True) -> int:
    """Bytes a token that the graph of all layers keeps: with checkpointing each layer's input alone."""
    each = shape.hidden * BFLOAT16 if checkpointing else kept_of_a_layer(shape, rank)
    return shape.layers * each


def memory(
    shape: Shape = MISTRAL_7B,
    rank: int = 16,
    chunk_tokens: int = 16_384,
    graph_tokens: int = 0,
    checkpointing: bool = True,
    texts: int = 3 * 2_048,
    method: str = "lora",
    shards: int = 1,
) -> dict[str, float]:
    """GB of each part of a step of training with gradient caching, and their sum, the peak. Of ``shards`` workers
    each has a part of the weights.

    The peak is in the backward pass of a chunk while ``graph_tokens`` of others are kept. "passing" is
    what a layer's backward pass makes and drops: as much again as the layer keeps is allowed for, and a test
    counts less at the 7B's widths. Vectors are float32: those of all ``texts``, and their gradient.
    """
    trained, layer = shape.trained(method, rank) / shards, kept_of_a_layer(shape, rank)
    again = layer if checkpointing else 0  # a layer that runs again keeps all of itself meanwhile
    parts = {
        "weights": shape.frozen(method) / shards,
        "trained": trained * (FLOAT32 + BFLOAT16),  # and their copy in 16 bits under autocast
        "gradients and optimiser": trained * 3 * FLOAT32,
        "kept by the chunk": chunk_tokens * (kept_of_a_token(shape, rank, checkpointing) + again),
        "kept of other chunks": graph_tokens * kept_of_a_token(shape, rank, checkpointing),
        "passing": chunk_tokens * layer,
        "vectors and gradient": texts * shape.hidden * 2 * FLOAT32,
        "CUDA": CONTEXT,
    }
    parts = {name: bytes_ / GB for name, bytes_ in parts.items()}
    return parts | {"peak": sum(parts.values())}


def graph_tokens_in(gigabytes: float, shape: Shape = MISTRAL_7B, **settings) -> int:
    """Tokens whose graphs may stay besides a chunk in so much memory, a twentieth of it left free."""
    free = 0.95 * gigabytes - memory(shape, **settings)["peak"]
    each = kept_of_a_token(shape, settings.get("rank", 16), settings.get("checkpointing", True))
    return max(0, int(free * GB / each))


# -- time ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gpu:
    """A data sheet: dense 16-bit matrix operations a second, bytes a second, bytes."""

    operations: float
    bandwidth: float
    memory: float

    @property
    def balance(self) -> float:
        """Operations a byte, below which memory is the ceiling."""
        return self.operations / self.bandwidth


# NVIDIA's public data sheets of the SXM parts, without sparsity, as read in 2026.
GPUS = {
    "H200": Gpu(989e12, 4.8e12, 141 * GB),
    "H100": Gpu(989e12, 3.35e12, 80 * GB),
    "A100": Gpu(312e12, 2.039e12, 80 * GB),
    "V100": Gpu(125e12, 0.9e12, 32 * GB),
}

# Share of the data sheet's rate at which products really run, those that are made twice included.
# Assumed for every GPU and both uses alike, before any comparison with the paper's hours.
UTILISATION = 0.4


@dataclass(frozen=True)
class Work:
    """A run: how many texts of how many tokens, and operations a parameter and token.

    ``useful`` are those that the result needs (2N encoding; 4N with a frozen base: forward, and gradients
    of activations); ``made`` adds what gradient caching and checkpointing run again.
    """

    texts: float
    tokens: float
    useful: int
    made: int
    assumption: str


# Of the benchmarks: distinct texts and their mean characters by mteb's own statistics, 4.2 characters a token in
# Latin letters and 2.4 in other scripts (assumed), 512 tokens at most; stages.planning.workload counts them anew.
RUNS = {
    "training": Work(
        3 * 1.8e6, 140, 4, 8,
        "1.8M triplets, 140 tokens a text on average (60 of a query with its instruction, 180 of a document); "
        "8N is made: cached vectors, the pass with a graph, checkpointing's, and the backward pass",
    ),
    "MTEB(eng, v1)": Work(
        36.9e6, 102, 2, 2,
        "36.9M texts by mteb's statistics, of which BEIR's corpora are 33.9M; 4.2 characters a token",
    ),
    "MIRACL dev": Work(
        90.2e6, 95, 2, 2,
        "90.2M passages in 16 languages by mteb's statistics; 4.2 characters a token in Latin letters, 2.4 in "
        "other scripts",
    ),
}  # fmt: skip


def paper_hours() -> dict[str, tuple[int, float]]:
    """What the paper says of its hours (App. A): run → V100s, hours."""
    told = registry.published()["scalars"]
    gpus = [int(told[name].split()[0]) for name in ("train_hardware", "eval_hardware")]
    return {"training": (gpus[0], told["train_hours"]), "MTEB(eng, v1)": (gpus[1], 24 * told["eval_days"])}


def gpu_hours(work: Work, gpu: Gpu, shape: Shape = MISTRAL_7B, utilisation: float = UTILISATION) -> float:
    """Hours on one GPU, of products alone: attention's own are 1 to 2 % more at 512 tokens."""
    operations = work.texts * work.tokens * work.made * shape.matrices
    return operations / (gpu.operations * utilisation) / 3600


def implied(work: Work, gpus: int, hours: float, gpu: Gpu = GPUS["V100"], shape: Shape = MISTRAL_7B) -> float:
    """The share of ``gpu``'s rate that useful operations had, if the run took so long (MFU)."""
    return work.texts * work.tokens * work.useful * shape.matrices / (gpus * hours * 3600 * gpu.operations)


# How the paper's own runs may have gone; the paper says neither how texts were padded nor how long they are.
READINGS = {
    ("training", "real tokens, no padding"): replace(RUNS["training"], made=6),
    ("training", "every text padded to 512"): replace(RUNS["training"], tokens=512, made=6),
    ("MTEB(eng, v1)", "real tokens, no padding"): RUNS["MTEB(eng, v1)"],
    ("MTEB(eng, v1)", "a quarter of padding"): replace(RUNS["MTEB(eng, v1)"], tokens=103 * 1.25),
}


def projection() -> str:
    """Markdown: GPU-hours of the full-data run and its evaluation on each GPU."""
    names = [name for name in GPUS if name != "V100"]
    lines = [f"| run | {' | '.join(names)} | assumed |", f"|---|{'---|' * (len(names) + 1)}"]
    for run, work in RUNS.items():
        hours = " | ".join(f"{gpu_hours(work, GPUS[name]):,.0f}" for name in names)
        lines.append(f"| {run} | {hours} | {work.assumption} |")
    return "\n".join(lines)


def against_the_paper() -> str:
    """Markdown: the paper's GPU-hours, what they imply, and how far this arithmetic is off."""
    lines = [
        "| run | reading | the paper's V100-hours | by this arithmetic | ratio | within 1.5x | MFU implied |",
        "|---|---|---|---|---|---|---|",
    ]
    for (run, reading), work in READINGS.items():
        gpus, hours = paper_hours()[run]
        found = gpu_hours(work, GPUS["V100"])
        ratio = gpus * hours / found
        near = "yes" if 1 / 1.5 <= ratio <= 1.5 else "no"
        share = implied(work, gpus, hours)
        lines.append(
            f"| {run} | {reading} | {gpus * hours:,.0f} | {found:,.0f} | {ratio:.2f} | {near} | {share:.0%} |"
        )
    return "\n".join(lines)


def ceilings() -> str:
    """Markdown: each GPU's ceilings, and tokens a second at them for Mistral-7B."""
    lines = [
        "| GPU | dense 16-bit TFLOP/s | TB/s | GB | operations a byte | encoding, tokens/s | LoRA training, tokens/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, gpu in GPUS.items():
        encode, train = (gpu.operations / (n * MISTRAL_7B.matrices) for n in (2, 4))
        lines.append(
            f"| {name} | {gpu.operations / 1e12:,.0f} | {gpu.bandwidth / 1e12:g} | {gpu.memory / GB:.0f} | "
            f"{gpu.balance:.0f} | {encode:,.0f} | {train:,.0f} |"
        )
    return "\n".join(lines)


SETTINGS = {
    "paper.yaml: 16,384 tokens a chunk, checkpointing": {},
    "the same, graphs kept as far as 80 GB go": {"graph_tokens": None},
    "gpu.yaml as it begins: 8,192 a chunk, no checkpointing": {"chunk_tokens": 8_192, "checkpointing": False},
    "gpu.yaml halved once: 4,096 a chunk, no checkpointing": {"chunk_tokens": 4_096, "checkpointing": False},
}


def peaks() -> str:
    """Markdown: the expected peak of a step at batch 2,048 for the documented settings, in GB."""
    lines = [
        "| settings | weights | graphs | rest | expected peak, GB | in 80 GB |",
        "|---|---|---|---|---|---|",
    ]
    for name, settings in SETTINGS.items():
        if settings.get("graph_tokens", 0) is None:
            settings = settings | {"graph_tokens": graph_tokens_in(80)}
            name = f"{name}: {settings['graph_tokens']:,} tokens"
        parts = memory(**settings)
        graphs = sum(v for k, v in parts.items() if k.startswith("kept"))
        rest = parts["peak"] - graphs - parts["weights"]
        fits = "yes" if parts["peak"] <= 80 else "no"
        lines.append(
            f"| {name} | {parts['weights']:.1f} | {graphs:.1f} | {rest:.1f} | {parts['peak']:.1f} | {fits} |"
        )
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """Name → Markdown, as docs/gpu.md has them between its marks."""
    made = (ceilings, peaks, projection, against_the_paper)
    return {function.__name__: function() for function in made}
