"""Tiny models and tokenizers that tests make themselves; nothing is fetched from a hub."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
import torch
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModel, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

ALPHABET = sorted(set(pre_tokenizers.ByteLevel.alphabet()))


def byte_tokenizer(style: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the special tokens of a Llama, Mistral or Qwen tokenizer."""
    special = {
        "llama": ["<unk>", "<s>", "</s>"],
        "mistral": ["<unk>", "<s>", "</s>"],
        "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    }[style]
    pairs = [("a", "b"), ("t", "h"), ("th", "e"), ("Ċ", "Q"), ("Ġ", "t"), ("Ġ", "a"), (":", "Ġ"), ("y", ":")]
    vocabulary = {t: i for i, t in enumerate([*special, *ALPHABET, *("".join(p) for p in pairs)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = (
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        if style == "qwen"
        else {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tiny_model(style: str, layers: int = 2, window: int | None = 8, seed: int = 0) -> torch.nn.Module:
    common = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "pad_token_id": 0,
    }  # fmt: skip
    config = {
        "llama": lambda: LlamaConfig(**common),
        "mistral": lambda: MistralConfig(**common, sliding_window=window),
        "qwen": lambda: Qwen2Config(**common),
    }[style]()
    torch.manual_seed(seed)
    return AutoModel.from_config(config).eval()


@pytest.fixture(params=["llama", "mistral", "qwen"])
def style(request) -> str:
    return request.param


@pytest.fixture
def backbone(style) -> Backbone:
    return Backbone(tiny_model(style), TokenContract.of(byte_tokenizer(style)), {"model": f"tiny-{style}"})


@pytest.fixture
def llama() -> Backbone:
    return Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {"model": "tiny-llama"})


@pytest.fixture
def tiny_folder(tmp_path):
    """A saved base model, as a user's local folder."""
    folder = tmp_path / "base"
    tiny_model("llama").save_pretrained(folder)
    byte_tokenizer("llama").save_pretrained(folder)
    return folder
