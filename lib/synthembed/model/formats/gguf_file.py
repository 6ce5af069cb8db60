"""An exported folder → one GGUF file for llama.cpp, with its tokenizer, pooling and eos.

llama.cpp has layers of its own: weights are renamed and laid out as it wants them, and what its file has no place for
is refused rather than left out. What it has a place for but does not use is said in the card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from synthembed.ground.files import read_json
from synthembed.model.formats.parity import ExportError, length_lost, read_as

# transformers' model_type → (llama.cpp's architecture, whether it rotates neighbouring numbers of a head)
ARCHITECTURES = {
    "llama": ("llama", True), "mistral": ("llama", True), "qwen2": ("qwen2", False), "qwen3": ("qwen3", False),
    "gemma3_text": ("gemma3", False),
}  # fmt: skip
POOLING = {"last": "LAST", "mean": "MEAN"}
# How a byte-level tokenizer cuts text before merging: llama.cpp knows it by name.
CUTS = {
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """The file, and in words what it does not carry."""

    path: Path
    losses: list[str]


def write(source: Path, path: Path, precision: str = "f32") -> Written:
    """``source`` (a folder of export.export) as a GGUF file; ``precision`` of the matrices is f32 or f16.

    Raises ExportError for a model, pooling or tokenizer that the format cannot carry.
    """
    import gguf
    from transformers import AutoConfig

    if precision not in ("f32", "f16"):
        raise ExportError(f"--precision {precision!r}: f32 or f16")
    kind = read_json(source / "config.json")["model_type"]
    if kind not in ARCHITECTURES:
        raise ExportError(
            f"{kind} models are not written as GGUF here: {', '.join(ARCHITECTURES)} are; ONNX takes any decoder or encoder"
        )
    # As transformers reads it: older files have other names for RoPE's scaling, and leave out what is usual.
    config = AutoConfig.from_pretrained(source, trust_remote_code=False).to_dict()
    architecture, neighbours = ARCHITECTURES[kind]
    losses: list[str] = []
    writer = gguf.GGUFWriter(path, architecture)
    _describe(writer, gguf, source, config, precision, losses)
    _tokens(writer, gguf, read_json(source / "tokenizer.json"), config["vocab_size"], losses)
    number = {member.name.lower(): member for member in gguf.MODEL_ARCH}[architecture]
    names = gguf.get_tensor_name_map(number, config["num_hidden_layers"])
    for name, weight in _weights(source):
        found = names.get_name(f"model.{name}", try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ExportError(f"llama.cpp has no place for the weight {name} of a {kind} model")
        if neighbours and (part := re.search(r"self_attn\.([qk])_proj", name)):
            heads = config["num_attention_heads"] if part[1] == "q" else config["num_key_value_heads"]
            weight = weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
        if kind == "gemma3_text" and name.endswith("norm.weight"):
            weight = weight + 1  # transformers adds the one when it runs
        half = precision == "f16" and weight.ndim == 2
        writer.add_tensor(found, np.ascontiguousarray(weight, np.float16 if half else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Written(path, losses)


def _weights(source: Path):
    """(name, weight) of what transformers reads, without the head of a causal model, which no vector is read from."""
    files = sorted(source.glob("model.safetensors")) or sorted(source.glob("model-*.safetensors"))
    if not files:
        raise ExportError(f"{source} has no model.safetensors: save the model anew with save_pretrained")
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in sorted(tensors.keys()):
                if not name.startswith("lm_head."):
                    yield name.removeprefix("model."), tensors.get_tensor(name).float().numpy()


def _describe(writer, gguf, source: Path, config: dict, precision: str, losses: list[str]) -> None:
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    base, local = _rope(config)
    recipe = read_as(source)
    if recipe.pooling not in POOLING:
        raise ExportError(
            f"llama.cpp pools by last or mean token alone: this model's pooling, {recipe.pooling}, it does not know"
        )
    if config.get("is_causal") is False or config.get("use_bidirectional_attention"):
        raise ExportError(
            "this model looks both ways, and in llama.cpp these layers look back alone: ONNX carries it"
        )
    writer.add_name(source.resolve().name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(base)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_pooling_type(gguf.PoolingType[POOLING[recipe.pooling]])
    writer.add_causal_attention(True)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if precision == "f32" else gguf.LlamaFileType.MOSTLY_F16)
    window = config.get("sliding_window")
    if config["model_type"] == "gemma3_text":
        _check_gemma(config, size, local)
        writer.add_sliding_window(window)
    elif window and config.get("use_sliding_window", True):
        losses.append(
            f"the window of {window:,} tokens: llama.cpp attends to all of a {config['model_type']} model's tokens, so longer "
            "texts have other vectors"
        )
    said = read_json(source / "config_sentence_transformers.json", {})
    losses.append(f"the length: texts are cut at {recipe.max_length} tokens elsewhere, and not by llama.cpp")
    losses += length_lost(recipe)
    for name, prompt in sorted(said.get("prompts", {}).items()):
        if prompt:
            writer.add_string(f"synthembed.prompt.{name}", prompt)
    losses.append(
        "the prompts: they are in the file as synthembed.prompt.*, and llama.cpp puts none before a text"
    )


def _rope(config: dict) -> tuple[float, float | None]:
    """RoPE's base, and that of layers with a window where it is another; raises ExportError if it is scaled."""
    found = config.get("rope_parameters") or {}
    full = found.get("full_attention", found)
    kinds = {
        part.get("rope_type", "default")
        for part in (found.get("full_attention"), found.get("sliding_attention"), full)
        if part
    }
    if kinds - {"default"}:
        raise ExportError(
            f"RoPE is scaled ({', '.join(sorted(kinds - {'default'}))}), which is not written as GGUF here"
        )
    base = full.get("rope_theta") or config.get("rope_theta") or 10_000.0
    local = (found.get("sliding_attention") or {}).get("rope_theta") or config.get("rope_local_base_freq")
    return float(base), local


def _check_gemma(config: dict, size: int, local: float | None) -> None:
    """llama.cpp has these of Gemma 3 in its code and not in the file."""
    kinds = config.get("layer_types") or []
    wanted = ["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(len(kinds))]
    if kinds != wanted or local not in (None, 10_000, 10_000.0):
        raise ExportError(
            "llama.cpp takes every sixth layer of a Gemma 3 to see everything, with RoPE's base 10,000 in the others: this model differs"
        )
    if config.get("query_pre_attn_scalar", size) != size:
        raise ExportError(
            "llama.cpp scales Gemma 3's attention by the size of a head, and this model does otherwise"
        )


# --- the tokenizer -----------------------------------------------------------------------------------


def _tokens(writer, gguf, tokenizer: dict, size: int, losses: list[str]) -> None:
    model = tokenizer["model"]
    if model["type"] != "BPE":
        raise ExportError(
            f"a {model['type']} tokenizer is not written as GGUF here: BPE is, byte-level or with byte fallback"
        )
    # Tokens behind the model's last row, as Gemma 3's <image_soft_token> is, have no vector and no place.
    added = [t for t in tokenizer["added_tokens"] if t["id"] < size]
    vocabulary = {t: n for t, n in model["vocab"].items() if n < size} | {
        t["content"]: t["id"] for t in added
    }
    tokens, types = [f"[PAD{n}]" for n in range(size)], [gguf.TokenType.UNUSED] * size
    for token, number in vocabulary.items():
        tokens[number], types[number] = token, gguf.TokenType.NORMAL
        if re.fullmatch(r"<0x[0-9A-F]{2}>", token) and model.get("byte_fallback"):
            types[number] = gguf.TokenType.BYTE
        elif token == model.get("unk_token"):
            types[number] = gguf.TokenType.UNKNOWN
    for token in added:
        if types[token["id"]] != gguf.TokenType.UNKNOWN:
            types[token["id"]] = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    if model.get("byte_fallback"):
        scores = _scores(merges, tokens)
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(scores)
        writer.add_add_space_prefix(_prepends(tokenizer))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_cut(tokenizer))
        writer.add_token_merges([" ".join(pair) for pair in merges])
        losses += _normalisers(tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    head, tail = _ends(tokenizer)
    writer.add_add_bos_token(head is not None)
    if head is not None:
        writer.add_bos_token_id(head)
    writer.add_add_eos_token(True)
    writer.add_eos_token_id(tail)
    if model.get("unk_token") in vocabulary:
        writer.add_unk_token_id(vocabulary[model["unk_token"]])


def _scores(merges: Sequence[tuple[str, str]], tokens: list[str]) -> list[float]:
    """SentencePiece merges what has the highest score, BPE the lowest rank: a token's score is minus the rank of
    the first merge that makes it."""
    rank: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        rank.setdefault(left + right, number)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _prepends(tokenizer: dict) -> bool:
    parts = json.dumps([tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")])
    return (
        '"Prepend"' in parts or '"prepend_scheme": "first"' in parts or '"prepend_scheme": "always"' in parts
    )


def _cut(tokenizer: dict) -> str:
    """llama.cpp's name of how a byte-level tokenizer cuts text; raises ExportError for one that it has none for."""
    whole = tokenizer.get("pre_tokenizer") or {}
    parts = whole.get("pretokenizers", [whole])
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if (
        kinds == ["Digits", "ByteLevel"]
        and parts[0].get("individual_digits")
        and parts[1].get("use_regex", True)
    ):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and (named := CUTS.get(parts[0].get("pattern", {}).get("Regex", ""))):
        return named
    raise ExportError(
        f"how this tokenizer cuts text ({', '.join(map(str, kinds))}) has no name in llama.cpp: ONNX carries it"
    )


def _normalisers(tokenizer: dict) -> list[str]:
    found = tokenizer.get("normalizer")
    kinds = [part["type"] for part in (found.get("normalizers", [found]) if found else [])]
    return [f"the normaliser {', '.join(kinds)}: give text in that form, as most text is"] if kinds else []


def _ends(tokenizer: dict) -> tuple[int | None, int]:
    """The ids of bos (None if there is none) and eos, as the template of the exported tokenizer has them."""
    template = (tokenizer.get("post_processor") or {}).get("single") or []
    ids = {
        key: value["ids"][0]
        for key, value in (tokenizer["post_processor"] or {}).get("special_tokens", {}).items()
    }
    named = [part["SpecialToken"]["id"] if "SpecialToken" in part else None for part in template]
    if None not in named or named[-1] is None:
        raise ExportError("the tokenizer puts no eos after a text: export the model with synthembed first")
    at = named.index(None)
    return (ids[named[0]] if at else None), ids[named[-1]]


# --- its own runtime ---------------------------------------------------------------------------------


def encode(path: Path, texts: Sequence[str]) -> np.ndarray:
    """Vectors (texts, dim) by llama.cpp, one text at a time, as its server gives them."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.embedding, params.warmup, params.verbosity = True, False, 0
    params.n_ctx = params.n_batch = params.n_ubatch = 2048
    params.n_parallel = 1
    running = xllamacpp.Server(params)
    try:
        replies = [running.handle_embeddings({"input": text, "model": "any"}) for text in texts]
    finally:
        del running
    return np.array([_vector(reply, text) for reply, text in zip(replies, texts, strict=True)], np.float32)


def _vector(reply, text: str) -> list[float]:
    try:
        return reply["data"][0]["embedding"]
    except (KeyError, TypeError, IndexError):
        raise ExportError(f"llama.cpp has no vector for {text[:50]!r}: {str(reply)[:200]}") from None
