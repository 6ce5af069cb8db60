"""Texts into vectors, beside sentence-transformers on the same weights and mteb's own wrapper.

Both sides load the same exported folder, run in one process in turn, and must give the same vectors.
The peer runs at the batch size that was fastest for it on the very texts that are timed.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from synthembed import profile
from synthembed.corpus import example, example_files
from synthembed.evaluation import protocol
from synthembed.evaluation.suites import embedded_tasks
from synthembed.generation import two_steps
from synthembed.ground import hardware
from synthembed.model import backbone, export
from synthembed.model.backbone import Backbone as Base
from synthembed.model.cpu import bfloat16_linear, onednn_linear
from synthembed.model.cpu.int8_linear import to_int8
from synthembed.model.cpu.rate import matrix_rate
from synthembed.model.encoder import Encoder
from synthembed.model.instructions import TEMPLATE
from synthembed.profile.settings import Backbone

from benchmarks.measure import alone, in_turn, row

QUERIES = DOCUMENTS = 512
SHORT = 12  # words
MIX = 40  # texts of each file of the suite
NOT_TEXT = ("id", "label", "query-id", "corpus-id")
BATCH_SIZES = (4, 8, 16, 32, 64, 128)
MAX_LENGTH = 512
GROWTH = (1_000, 10_000, 100_000)
INSTRUCTION = "Given a question about everyday matters, retrieve passages that answer it"

Work = list[tuple[str, list[str]]]  # instruction ("" for none) and the texts under it


def run(settings: Backbone | None = None, scale: float = 1.0) -> list[dict]:
    """All rows; ``scale`` below 1 shrinks the work, to try the harness at tiny size."""
    with tempfile.TemporaryDirectory() as folder:
        model = backbone.load(settings or profile.load("laptop").backbone)
        export.export(model, Path(folder), "last", "natural", "", MAX_LENGTH)
        del model
        works = scaled(workloads(), scale)
        rows = [r for name, work in works.items() for r in compare(name, work, folder)]
        rows.append(with_mteb(folder, scale))
        if hardware.device().type == "cpu":
            documents = sample(works["encode/documents"])
            rows += [rounded(documents, folder), int8(documents, folder), growth(folder, scale)]
    return rows


def scaled(works: dict[str, Work], scale: float) -> dict[str, Work]:
    return {k: [(i, t[: max(2, int(scale * len(t)))]) for i, t in w] for k, w in works.items()}


@cache
def workloads() -> dict[str, Work]:
    """Short queries, an mteb-like mix with its instructions, and documents of 100-200 words."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        plan = profile.load("laptop")
        two_steps.generate(plan, Path(folder))
        items = two_steps.read_items(Path(folder))
        found = list(example_files.from_replies(Path(folder) / "replies.jsonl", items, example.Drops()))
    asked = [e for e in found if e.family == "short-long" and e.language == "en"]
    written = [e.query for e in found if e.language == "en"]
    written += [
        r["text"]
        for f in sorted(embedded_tasks.DATA.glob("retrieval/*/queries.jsonl"))
        for r in embedded_tasks.rows(f)
    ]
    short = [text for text in written if len(text.split()) <= SHORT]
    pieces = [t for e in asked for t in e.documents()]
    documents = [of_words(rng.randint(100, 200), pieces, rng) for _ in range(DOCUMENTS)]
    mix = []
    for task in embedded_tasks.embedded():
        if task.metadata.eval_langs != ["eng-Latn"] or task.metadata.type == "InstructionRetrieval":
            continue  # MTEB's 56 are English, and of seven kinds
        prompt = task.metadata.prompt
        instruction = prompt["query"] if isinstance(prompt, dict) else prompt
        for file in sorted((embedded_tasks.DATA / task.folder).rglob("*.jsonl")):
            texts = [
                v
                for r in embedded_tasks.rows(file)
                for k, v in r.items()
                if k not in NOT_TEXT and isinstance(v, str)
            ]
            if texts:
                document = task.metadata.type == "Retrieval" and file.name == "corpus.jsonl"
                mix.append(("" if document else instruction, rng.sample(texts, min(MIX, len(texts)))))
    return {
        "encode/queries": [(INSTRUCTION, short[:QUERIES])],
        "encode/mix": mix,
        "encode/documents": [("", documents)],
    }


def of_words(count: int, pieces: list[str], rng: random.Random) -> str:
    words: list[str] = []
    while len(words) < count:
        words += rng.choice(pieces).split()
    return " ".join(words[:count])


def ours(folder: str) -> Encoder:
    loaded = backbone.load(Backbone(model=folder))
    tokens = 32_768 if loaded.device.type == "cuda" else 1_024
    return Encoder(loaded, max_length=MAX_LENGTH, batch_tokens=tokens)


def theirs(folder: str):
    """The peer on the same device, in the same precision, with flash attention where it is installed."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import is_flash_attn_2_available

    on = hardware.device()
    flash = on.type == "cuda" and is_flash_attn_2_available()
    options = {
        "dtype": hardware.dtype_of("auto", on), "attn_implementation": "flash_attention_2" if flash else "sdpa"
    }  # fmt: skip
    model = SentenceTransformer(folder, device=str(on), model_kwargs=options)
    model.max_seq_length = MAX_LENGTH
    return model


def run_ours(encoder: Encoder, work: Work) -> list[np.ndarray]:
    return [encoder.encode(texts, instruction) for instruction, texts in work]


def run_theirs(model, work: Work, batch_size: int) -> list[np.ndarray]:
    prompts = [TEMPLATE.format(instruction=i, text="") if i else "" for i, _ in work]
    return [
        model.encode(texts, prompt=prompt, batch_size=batch_size, normalize_embeddings=True)
        for prompt, (_, texts) in zip(prompts, work, strict=True)
    ]


def compare(name: str, work: Work, folder: str) -> list[dict]:
    """Ours beside the peer; for documents also the share of the matrix-product rate, in the same rounds."""
    encoder, model, part = ours(folder), theirs(folder), sample(work)
    tried = {}
    for size in BATCH_SIZES:
        start = time.perf_counter()
        vectors = run_theirs(model, part, size)
        tried[size] = time.perf_counter() - start
    best = min(tried, key=tried.get)
    pairs = zip(run_ours(encoder, part), vectors, strict=True)
    least = min(float((a * b).sum(1).min()) for a, b in pairs)
    rates: dict[str, list[float]] = {"torch": [], "onednn": [], "bfloat16": []}
    sides = {"ours": lambda: run_ours(encoder, work), "peer": lambda: run_theirs(model, work, best)}
    if name == "encode/documents":
        kind, on = next(encoder.backbone.model.parameters()).dtype, encoder.backbone.device
        half = torch.bfloat16 if bfloat16_linear.is_used_in(encoder.backbone.model) else None
        sides["bound"] = lambda: (
            rates["torch"].append(matrix_rate(on, 0.3, kind, False)),
            rates["onednn"].append(matrix_rate(on, 0.3, kind)),
            half and rates["bfloat16"].append(matrix_rate(on, 0.3, half)),
        )
    seconds = in_turn(sides)
    memory = [alone(side, folder, part, best)[1] for side in (_memory_of_ours, _memory_of_theirs)]
    count = sum(len(texts) for _, texts in work)
    found = [row(
        name, count / seconds["ours"], count / seconds["peer"], f"SentenceTransformer.encode, batch {best}",
        "texts/s", f"least cosine {least:.7f}, peak memory {memory[0]:.2f} GB against {memory[1]:.2f} GB",
    )]  # fmt: skip
    return found + (bounds(encoder, work, seconds["ours"], rates) if rates["onednn"] else [])


def sample(work: Work) -> Work:
    """A quarter of the texts, evenly drawn: to choose the peer's batch size, to compare vectors and memory."""
    return [(instruction, texts[:: 4 if len(texts) >= 8 else 1]) for instruction, texts in work]


def _memory_of_ours(folder: str, work: Work, batch_size: int) -> None:
    run_ours(ours(folder), work)


def _memory_of_theirs(folder: str, work: Work, batch_size: int) -> None:
    run_theirs(theirs(folder), work, batch_size)


def executed(encoder: Encoder, rows: list[list[int]]) -> float:
    """Operations of a pass over ``rows`` as they are really made: 2 a parameter and token, less what the
    last layer leaves out; attention's own products are not counted."""
    layer = encoder.backbone.model.layers[-1]
    of = lambda *modules: sum(p.numel() for m in modules for p in m.parameters() if p.ndim == 2)  # noqa: E731
    whole = encoder.backbone.matrix_parameters()
    last_token_only = of(layer) - of(layer.self_attn.k_proj, layer.self_attn.v_proj)
    tokens = sum(map(len, rows))
    return 2 * (tokens * (whole - last_token_only) + len(rows) * last_token_only)


def bounds(encoder: Encoder, work: Work, seconds: float, rates: dict[str, list[float]]) -> list[dict]:
    """The share of the matrix-product rate that was measured in the same rounds: of torch's own product,
    which the peer's layers use, of the fastest in float32 that torch carries, and of bfloat16's if ours are
    rounded to it."""
    rows = encoder.rows(work[0][1])
    own, fastest, half = (float(np.median(r)) / 1e9 if r else 0.0 for r in rates.values())
    made = executed(encoder, rows) / seconds / 1e9
    plain = 2 * encoder.backbone.matrix_parameters() * sum(map(len, rows)) / seconds / 1e9
    told = "operations really made; with 2N a token it would be"
    shares = [row(
        "encode/bound", made, own, "torch.matmul, large and square", "GFLOP/s", f"{told} {plain / own:.2f}"
    )]  # fmt: skip
    if onednn_linear.use_onednn():
        shares.append(row(
            "encode/bound-onednn", made, fastest, "oneDNN's product, large and square", "GFLOP/s",
            f"{told} {plain / fastest:.2f}",
        ))  # fmt: skip
    if half:
        shares.append(row(
            "encode/bound-bfloat16", made, half, "oneDNN's product in bfloat16, large and square", "GFLOP/s",
            f"{told} {plain / half:.2f}",
        ))  # fmt: skip
    return shares


def with_mteb(folder: str, scale: float) -> dict:
    """mteb's stock wrapper and ours, as mteb calls them, on one task of the suite."""
    from mteb._create_dataloaders import create_dataloader
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

    (task,) = embedded_tasks.embedded(["EmbeddedSTSGeneral"])
    task.load_data()
    data = task.dataset["test"].select_columns(["sentence1"]).rename_column("sentence1", "text")
    data = data.select(range(max(2, int(scale * len(data)))))
    prompt = TEMPLATE.format(instruction=task.metadata.prompt, text="")
    stock = SentenceTransformerEncoderWrapper(theirs(folder), model_prompts={"STS": prompt})
    subject = protocol.MtebEncoder(ours(folder), "synthembed/bench", "1")
    common = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default"}

    def encode(model, **options):
        batches = create_dataloader(data, task_metadata=task.metadata, batch_size=32)
        return np.asarray(model.encode(batches, **common, **options))

    quiet = {"show_progress_bar": False, "batch_size": 32}
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (encode(subject), encode(stock, **quiet)))
    least = float((a * b).sum(1).min())
    seconds = in_turn({"ours": lambda: encode(subject), "peer": lambda: encode(stock, **quiet)})
    return row(
        "encode/mteb", len(data) / seconds["ours"], len(data) / seconds["peer"], "mteb's stock wrapper, batch 32",
        "texts/s", f"least cosine {least:.7f}",
    )  # fmt: skip


def exact(folder: str) -> Encoder:
    """Ours in float32 throughout."""
    return Encoder(backbone.load(Backbone(model=folder, dtype="float32")), "last", MAX_LENGTH, 1_024)


def rounded(work: Work, folder: str) -> dict:
    """Frozen weights in bfloat16, where they are chosen here, beside our own float32."""
    return beside_float32("encode/bfloat16", ours(folder), exact(folder), work)


def int8(work: Work, folder: str) -> dict:
    """int8 weights beside our own float32, and what they cost in cosine."""
    whole = exact(folder)
    base = whole.backbone
    small = Encoder(
        Base(to_int8(base.model), base.contract, base.source), "last", MAX_LENGTH, whole.batch_tokens
    )
    return beside_float32("encode/int8", small, whole, work)


def beside_float32(name: str, encoder: Encoder, whole: Encoder, work: Work) -> dict:
    (a,), (b,) = run_ours(whole, work), run_ours(encoder, work)
    cosine = (a * b).sum(1)
    seconds = in_turn({"ours": lambda: run_ours(encoder, work), "peer": lambda: run_ours(whole, work)})
    count = len(work[0][1])
    return row(
        name, count / seconds["ours"], count / seconds["peer"], "our own float32", "texts/s",
        f"cosine to float32: mean {cosine.mean():.5f}, least {cosine.min():.5f}",
    )  # fmt: skip


def growth(folder: str, scale: float) -> dict:
    """Seconds against tokens from 1,000 to 100,000 texts, two layers: the slope on logarithmic axes."""
    encoder = ours(folder)
    backbone.keep_layers(encoder.backbone.model, min(2, len(encoder.backbone.model.layers)))
    vocabulary, rng, points = INSTRUCTION.split(), random.Random(0), []
    for size in GROWTH:
        texts = [
            f"{' '.join(rng.choices(vocabulary, k=rng.randint(2, 12)))} {n}"
            for n in range(max(2, int(scale * size)))
        ]
        tokens = sum(map(len, encoder.rows(texts)))
        start = time.perf_counter()
        encoder.encode(texts)
        points.append((tokens, time.perf_counter() - start))
    (t0, s0), (t1, s1) = points[0], points[-1]
    slope = math.log(s1 / s0) / math.log(t1 / t0)
    told = ", ".join(f"{t:,} tokens {s:.1f} s" for t, s in points)
    return row(
        "encode/growth",
        t1 / s1,
        t0 / s0,
        "itself on the smallest set",
        "tokens/s",
        f"slope {slope:.3f}: {told}",
    )
