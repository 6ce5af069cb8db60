"""The base model: loaded, cut to its first layers, told from others (Sec. 4.2, App. A).

A base is hub:owner/name, a local folder, or one of ground.weights.embedded.EMBEDDED. Only safetensors are read, and
no code from a checkpoint is run. What is loaded is whole: each weight is from the checkpoint, and how its rows
may share a batch was found out on it (probe.py), or it is refused with a reason.
"""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from synthembed.ground.cores import cores
from synthembed.ground.hardware import device, dtype_of, is_out_of_memory
from synthembed.ground.weights.embedded import EMBEDDED, BackboneError, folder_of
from synthembed.ground.weights.saved_models import Recipe, check_files, recipe_of
from synthembed.model import probe
from synthembed.model.cpu import bfloat16_linear, lean_layers, onednn_linear, rms_norm
from synthembed.model.cpu.allocator import keep_freed_memory
from synthembed.model.cpu.int8_linear import Int8Linear
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import Backbone as Settings

NO_CODE = {"trust_remote_code": False}  # unsaid, transformers asks at the terminal, and waits for an answer
# What a library raises at a folder that it cannot read.
READING = (OSError, ValueError, ImportError, KeyError, AttributeError, RuntimeError, SafetensorError)


def export_settings(base: Settings, folder: Path) -> Settings:
    """How to load what a training from ``base`` left in ``folder``/model (export.py)."""
    changes = {"model": str(folder / "model"), "revision": None, "layers": None}
    return base.model_copy(update=changes | {"initialisation": "pretrained"})


@dataclass
class Backbone:
    """A base model without a language-model head, its tokenizer's contract, where it came from, and how the
    saved model says that it is read."""

    model: nn.Module
    contract: TokenContract
    source: dict
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def config(self):
        return self.model.config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def check_length(self, max_length: int) -> None:
        """Raise if rows of ``max_length`` tokens are longer than the learned positions of the base, or so long
        that a vector would depend on the longest row of a batch."""
        have = _learned_positions(self.model)
        if have is not None and max_length > have:
            raise BackboneError(
                f"max_length = {max_length}, but {self.source.get('model')} has positions for "
                f"{have} tokens: lower train.max_length and evaluate.max_length"
            )
        probe.check_rows(self.model, max_length)

    def matrix_parameters(self) -> int:
        """N of the 2N / 4N / 6N cost model: parameters that every token is multiplied with."""
        plain = sum(p.numel() for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n)
        return plain + sum(m.weight.numel() for m in self.model.modules() if isinstance(m, Int8Linear))


def load(settings: Settings, seed: int = 0, on: torch.device | None = None) -> Backbone:
    """Load the base model of a profile onto the device of this process, or ``on`` another, in the precision that
    the device of this process calls for."""
    source = folder_of(settings.model)
    on, runs_on = on or device(), device()
    if on.type == "cpu":
        keep_freed_memory()
        if cores() < torch.get_num_threads():  # torch does not ask for a container's quota
            torch.set_num_threads(cores())
    check_files(source)
    options = NO_CODE | ({"revision": settings.revision} if settings.revision else {})
    try:
        config = AutoConfig.from_pretrained(source, **options)
        commit = getattr(config, "_commit_hash", None)
        if commit:  # tokenizer and weights of the very commit that is recorded
            options["revision"] = commit
        tokenizer = _tokenizer(source, options.get("revision"), _files_of(source, commit))
        positions = getattr(config, "max_position_embeddings", None)
        recipe = recipe_of(source, options.get("revision"), positions)
        if settings.initialisation == "random":
            torch.manual_seed(seed)
            empty = AutoModel.from_config(config, dtype=dtype_of(settings.dtype, runs_on), **NO_CODE)
            model = text_model(empty)
        else:
            model = _with_weights(source, settings, runs_on, options)
    except READING as error:
        if isinstance(error, BackboneError) or is_out_of_memory(error):
            raise
        raise BackboneError(
            f"backbone.model {settings.model!r} could not be read: {_said(error)}\n"
            "Give a hub id that can be reached (hub:owner/name), a local folder with safetensors, "
            f"or one of {', '.join(n for n, w in EMBEDDED.items() if w.member.endswith('.gguf'))}."
        ) from None
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a BERT's layer over [cls], which no vector of ours reads
    keep_layers(model, settings.layers)
    if settings.bidirectional:
        look_both_ways(model)
    model.config.use_cache = False
    name = settings.model
    model = model.to(on).eval()
    contract = TokenContract.of(tokenizer, as_saved=recipe.pooling is not None)
    _check_ids(model, contract)
    have = _learned_positions(model)
    if have is not None and (recipe.max_length or 0) > have:  # RoBERTa's config counts some that no token has
        recipe = replace(recipe, max_length=have)
    rows = _rows_of(contract)
    expected = probe.alone(model, rows)  # the model as transformers has it, before any part is another
    onednn_linear.use_in(model)
    lean_layers.use_in_mlps(model)
    rms_norm.use_in(model)
    found = probe.examine(model, rows, expected)
    if found.why and settings.attention == "auto":
        print(f"{name}: rows are padded ({found.why})", flush=True)
    wheel = EMBEDDED.get(name)
    origin = {"model": name, "revision": wheel.sha256 if wheel else commit, "layers": settings.layers}
    loaded = Backbone(model, contract, origin, recipe)
    if on.type == runs_on.type == "cpu" and settings.dtype == "auto" and bfloat16_linear.is_faster():
        bfloat16_linear.use_in(model, lambda: _vectors_of_probe(loaded))
    return loaded


def _said(error: Exception) -> str:
    """The line of a library's error that names what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    return named + (lines or ["no reason given"])[0]


def _with_weights(source: str, settings: Settings, on: torch.device, options: dict) -> nn.Module:
    """The text model with a checkpoint's weights; raises BackboneError unless each weight is from it."""
    attention = None if settings.attention == "auto" else settings.attention
    whole, told = AutoModel.from_pretrained(
        source, dtype=dtype_of(settings.dtype, on), use_safetensors=True, attn_implementation=attention,
        output_loading_info=True, **options,
    )  # fmt: skip
    if getattr(whole, "_hf_peft_config_loaded", False):
        raise BackboneError(
            f"{settings.model!r} has a LoRA adapter beside its weights: merge it and save that"
        )
    model = text_model(whole)
    place = next(name for name, module in whole.named_modules() if module is model)
    inside = f"{place}." if place else ""
    empty = [
        name for name, p in model.named_parameters() if p.ndim > 1 and p.dtype.itemsize > 1 and not p.any()
    ]
    if empty:  # a file that was set up in full length and not filled; some models begin with such layers
        print(
            f"warning: {len(empty)} weights of {settings.model} are all zeros, such as {min(empty)}: is it whole?",
            flush=True,
        )
    lacking = [
        name for name in told["missing_keys"]
        if name.startswith(inside) and not name.removeprefix(inside).startswith("pooler.")
    ]  # fmt: skip
    if lacking:
        raise BackboneError(
            f"{settings.model!r} lacks {len(lacking)} of the {len(list(model.parameters()))} weights of a "
            f"{model.config.model_type} model, such as {min(lacking)}{_instead(told['unexpected_keys'])}. "
            "Save the checkpoint with the names of its own architecture, or fetch it anew"
        )
    unread = [name for name in told["unexpected_keys"] if _matters(name, model)]
    if unread:
        raise BackboneError(
            f"{settings.model!r} has {len(unread)} weights that its architecture ({model.config.model_type}) does "
            f"not read, such as {min(unread)}: its vectors would be others. Merge an adapter before saving, or "
            "mend config.json"
        )
    return model


def _instead(unexpected) -> str:
    return f"; it has {len(unexpected)} under other names, such as {min(unexpected)}" if unexpected else ""


def _matters(name: str, model: nn.Module) -> bool:
    """Whether a weight that was not read would change a vector: an adapter's, or one of a layer that is kept.
    Heads, and layers behind the last one that predict further tokens, do not."""
    if "lora_" in name:
        return True
    inner = re.search(r"(?:^|\.)(?:layers?|h|blocks)\.(\d+)\.", name)
    text = not re.search(r"vision|visual|audio|image|inv_freq|masked_bias|mtp", name)
    return bool(inner and text and int(inner[1]) < getattr(model.config, "num_hidden_layers", 0))


def text_model(model: nn.Module) -> nn.Module:
    """The decoder inside a model of images and text; a text model as it is. Raises BackboneError for what has
    none, and for an encoder-decoder."""
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise BackboneError(
            f"a {config.model_type} model is an encoder-decoder, which no vector here is read from: choose a decoder, "
            "or an encoder of text"
        )
    wanted = config.get_text_config(decoder=True)
    if wanted is config:
        return model
    inner = [m for m in model.modules() if m is not model and getattr(m, "config", None) is wanted
             and isinstance(m, PreTrainedModel)]  # fmt: skip
    if not inner:
        raise BackboneError(
            f"a {config.model_type} model has no text model of its own to be taken out of it: choose its text-only sister"
        )
    return inner[0].base_model  # BLIP-2 has its text model with a head


def _check_ids(model: nn.Module, contract: TokenContract) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if max(contract.eos, contract.bos or 0) >= rows:
        raise BackboneError(
            f"the tokenizer's bos {contract.bos} and eos {contract.eos} are not all among the model's {rows:,} "
            "embeddings: the tokenizer belongs to another model"
        )


def _rows_of(contract: TokenContract) -> list[list[int]]:
    """Real tokens for the probe: two rows of different lengths that begin alike."""
    (*long, end), (*short, _) = contract.ids(PROBE[1:3], 12)
    return [[*long, end], [*long[:5], *short[5:8], end]]


def _learned_positions(model: nn.Module) -> int | None:
    """How many positions a model has learned, as BERT and GPT-2 have; None if they are computed."""
    for owner in model.modules():
        for name in ("position_embeddings", "wpe", "embed_positions"):
            table = getattr(owner, name, None)
            if isinstance(table, nn.Embedding):  # RoBERTa's positions begin after the pad token's, OPT's at 2
                first = getattr(owner, "padding_idx", -1) + 1 if name == "position_embeddings" else 0
                return table.num_embeddings - getattr(table, "offset", first)
    return None


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
    return AutoTokenizer.from_pretrained(source, **NO_CODE, **({"revision": revision} if revision else {}))


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
    have = model.config.num_hidden_layers
    if layers > have:
        raise BackboneError(f"backbone.layers = {layers}, but the base has {have}: choose 1 to {have}")
    owner, name = _layers_of(model)
    setattr(owner, name, getattr(owner, name)[:layers])
    _describe_first(model.config, layers)


def look_both_ways(model: nn.Module) -> None:
    """Every token of a decoder sees every other one, in place (BehnamGhader et al., "LLM2Vec", 2024).

    The configuration says so, and is saved with the model: transformers makes its masks by it. A window stays
    as wide to the left and is as wide to the right. Raises BackboneError for a model that has other masks.
    """
    config, rows = model.config, torch.tensor([[5, 6, 7, 8], [5, 9, 7, 8]])
    config.is_causal = False
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    with torch.inference_mode():
        states = model(input_ids=rows.to(model.device), use_cache=False).last_hidden_state
    if torch.allclose(states[0, 0].float(), states[1, 0].float(), atol=1e-5, rtol=1e-4):
        raise BackboneError(
            f"backbone.bidirectional: the first token of this {config.model_type} model still does not see the second; "
            "leave it out for this base"
        )


def _describe_first(config, layers: int) -> None:
    """The config of a model of whose layers only the first ``layers`` are left."""
    have = config.num_hidden_layers
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == have:  # one entry a layer, as layer_types
            setattr(config, key, value[:layers])
    config.num_hidden_layers = layers


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
    _describe_first(model.config, min(layers, len(every)))
    return replace(backbone, model=model)


def _layers_of(model: nn.Module) -> tuple[nn.Module, str]:
    """Which module has the list of layers, and by which name. Raises BackboneError if that is not plain."""
    have = model.config.num_hidden_layers
    places = [
        (owner, name) for owner in model.modules() for name, child in owner.named_children()
        if name in ("layers", "layer", "h", "blocks") and isinstance(child, nn.ModuleList) and len(child) == have
    ]  # fmt: skip
    if len(places) != 1:
        raise BackboneError("backbone.layers: the layers of this base were not found; use all")
    return places[0]


def fingerprint(backbone: Backbone) -> str:
    """What results of these weights are kept under: the hub's commit, or a hash over names, sizes and
    times of a local folder's files, so that a changed one is noticed.
    """
    if backbone.source["revision"]:
        return backbone.source["revision"][:12]
    folder = Path(backbone.source["model"])
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.glob("*"))]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:12]
