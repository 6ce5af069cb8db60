"""Tiny base models and tokenizers with random weights; nothing is fetched from a hub."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoModel, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config

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


def saved_base(folder: Path, style: str = "llama", **how) -> Path:
    """``folder`` with a base model and its tokenizer, as a user's local one."""
    tiny_model(style).save_pretrained(folder, **how)
    byte_tokenizer(style).save_pretrained(folder)
    return folder
