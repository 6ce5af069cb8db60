"""How each family of decoders is read: packed, padded or refused, and which fast paths serve it.

    .venv/bin/python docs/families.py        # writes docs/families.md anew

Each family is a random model of a few thousand weights, saved to a folder as its makers save theirs and loaded
as any base is (``model.backbone.load``). Nothing is fetched. ``row(name)`` is what the tests run.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import torch
import transformers
from synthembed.ground.weights.embedded import BackboneError
from synthembed.model import adapter, backbone, packed_rows, probe
from synthembed.model.cpu.lean_layers import GatedMlp
from synthembed.model.cpu.rms_norm import RmsNorm
from synthembed.model.encoder import Encoder, row_vectors
from synthembed.profile.settings import Backbone as Settings
from synthembed.profile.settings import Lora
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
)

PAGE = Path(__file__).with_name("families.md")
VOCABULARY = 320
SIZE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
WINDOW = {"sliding_window": 8}
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 32}  # fmt: skip
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 16}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
         "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"]}  # fmt: skip
LATENT = {"num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
          "v_head_dim": 8, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}  # fmt: skip
INDEXED = {"index_topk": 40, "index_head_dim": 8, "index_n_heads": 2}  # more than the probe's rows, less than a text's
SEEN = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 4}  # fmt: skip
# Name in the table -> type in transformers, and what differs from SIZE.
FAMILIES: dict[str, tuple[str, dict]] = {
    "Llama": ("llama", {}),
    "Llama, dynamic RoPE": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": 32}),
    "Llama 4": ("llama4_text", {"attention_chunk_size": 8, "intermediate_size_mlp": 64, **MOE}),
    "Mistral": ("mistral", WINDOW),
    "Mistral Small 3.1 (with images)": ("mistral3", {"text_config": ("mistral", {}), "vision_config": {"model_type": "pixtral", **SEEN}, "image_token_index": 5}),
    "Ministral": ("ministral", WINDOW),
    "Mixtral": ("mixtral", {**WINDOW, **MOE}),
    "Qwen2": ("qwen2", {"use_sliding_window": True, "max_window_layers": 2, **WINDOW}),
    "Qwen2-MoE": ("qwen2_moe", {**MOE, "shared_expert_intermediate_size": 32}),
    "Qwen3": ("qwen3", {}),
    "Qwen3-MoE": ("qwen3_moe", MOE),
    "Qwen3-Next": ("qwen3_next", {**DELTA, **MOE, "shared_expert_intermediate_size": 32}),
    "Qwen3.5 (with images)": ("qwen3_5", {"text_config": ("qwen3_5_text", DELTA), "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32, "num_position_embeddings": 16}}),
    "Gemma": ("gemma", {}),
    "Gemma 2": ("gemma2", {"query_pre_attn_scalar": 8, **WINDOW}),
    "Gemma 3": ("gemma3_text", {"query_pre_attn_scalar": 8, **WINDOW}),
    "Gemma 3 (with images)": ("gemma3", {"text_config": ("gemma3_text", {"query_pre_attn_scalar": 8, **WINDOW}), "vision_config": {"model_type": "siglip_vision_model", **SEEN}, "mm_tokens_per_image": 4}),
    "OLMo": ("olmo", {}),
    "OLMo 2": ("olmo2", {}),
    "OLMo 3": ("olmo3", WINDOW),
    "Granite": ("granite", {"attention_multiplier": 0.3, "residual_multiplier": 0.5}),
    "Granite 4 hybrid": ("granitemoehybrid", {**MAMBA, "num_local_experts": 0, "shared_intermediate_size": 64, "position_embedding_type": "rope", "layer_types": ["mamba", "mamba", "attention", "mamba"]}),
    "Phi": ("phi", {}),
    "Phi-3": ("phi3", WINDOW),
    "Phi-3, longrope": ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 32}),
    "Cohere": ("cohere", {}),
    "Cohere 2": ("cohere2", WINDOW),
    "SmolLM3": ("smollm3", {}),
    "StarCoder 2": ("starcoder2", WINDOW),
    "StableLM": ("stablelm", {}),
    "GLM": ("glm", {}),
    "GLM-4": ("glm4", {}),
    "EXAONE 4": ("exaone4", {"sliding_window_pattern": 2, **WINDOW}),
    "gpt-oss": ("gpt_oss", {**WINDOW, **MOE}),
    "Nemotron": ("nemotron", {}),
    "Helium": ("helium", {}),
    "Seed-OSS": ("seed_oss", {}),
    "ERNIE 4.5": ("ernie4_5", {}),
    "Hunyuan": ("hunyuan_v1_dense", {}),
    "LFM2": ("lfm2", {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "conv", "full_attention", "conv"]}),
    "Falcon": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "head_dim": None}),
    "Falcon-H1": ("falcon_h1", {**MAMBA, "mamba_d_ssm": 64}),
    "Bamba": ("bamba", {**MAMBA, "attn_layer_indices": [2]}),
    "Mamba": ("mamba", {}),
    "Mamba 2": ("mamba2", {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 16}),
    "DeepSeek-V3.2": ("deepseek_v32", {**LATENT, **INDEXED, **MOE}),
    "GLM-5": ("glm_moe_dsa", {**LATENT, **INDEXED, **MOE}),
    "MiniMax M3": ("minimax_m3_vl_text", {**MOE, "layer_types": ["full_attention", *["minimax_m3_sparse"] * 3], "index_topk_blocks": 1, "index_block_size": 16, "index_head_dim": 8, "index_n_heads": 2}),
    "RecurrentGemma": ("recurrent_gemma", {}),
    "GPT-2": ("gpt2", {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 512}),
    "GPT-NeoX": ("gpt_neox", {}),
    "GPT-J": ("gptj", {"n_embd": 32, "n_layer": 4, "n_head": 4, "rotary_dim": 8}),
    "OPT": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "BLIP-2 (with images)": ("blip-2", {"text_config": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}), "vision_config": SEEN, "qformer_config": {**SEEN, "encoder_hidden_size": 32}, "num_query_tokens": 2, "image_token_index": 5}),
    "BLOOM": ("bloom", {"n_layer": 4, "n_head": 4}),
    "MPT": ("mpt", {"d_model": 32, "n_layers": 4, "n_heads": 4, "expansion_ratio": 2}),
    "ModernBERT decoder": ("modernbert-decoder", {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "T5 (encoder-decoder)": ("t5", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}),
}


def tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def saved(name: str, folder: Path) -> Path:
    """A random model of a family, saved with its language-model head where it has one, and a tokenizer."""
    kind, more = FAMILIES[name]
    size = {k: v for k, v in (SIZE | more).items() if v is not None}
    if "text_config" in more:
        text_kind, text_more = more["text_config"]
        size = more | {"text_config": {"model_type": text_kind, **SIZE, **text_more}}
    config = CONFIG_MAPPING[kind](**size)
    torch.manual_seed(0)
    made = None
    for auto in (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModel):
        if type(config) in auto._model_mapping:
            made = auto.from_config(config).float()
            break
    for parameter in made.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(4)  # larger weights, so that what a token sees matters
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def row(name: str) -> dict:
    """What becomes of a family: ``rows`` is packed, padded or refused, ``why`` the reason if not packed,
    ``cosine`` the least of vectors in a batch to those of each row alone by transformers' own model, ``paths`` the
    fast paths that serve, ``lora`` the projections that get an adapter or why not."""
    with tempfile.TemporaryDirectory() as place:
        folder = str(saved(name, Path(place)))
        try:
            loaded = backbone.load(Settings(model=folder, dtype="float32"))
        except BackboneError as error:
            return {"rows": "refused", "why": str(error).splitlines()[0], "paths": [], "lora": ""}
        found = probe.findings(loaded.model)
        lengths = [n for n in (50, 33, 33, 15) if n <= (found.longest or n)]
        rows = [
            [1, *range(20, 28), *range(30 + 7 * i, 20 + 7 * i + n), 2] for i, n in enumerate(lengths)
        ]
        own = backbone.text_model(AutoModel.from_pretrained(folder).eval())
        with torch.no_grad():
            alone = [own(input_ids=torch.tensor([r]), use_cache=False).last_hidden_state[0, -1] for r in rows]
        vectors = Encoder(loaded, max_length=found.longest).encode_rows(rows, rows[0][:9])
        cosine = torch.cosine_similarity(vectors, torch.stack(alone).float()).min().item()
        return {
            "rows": found.how, "why": found.why, "longest": found.longest, "cosine": cosine,
            "paths": paths_of(loaded), "lora": lora_of(loaded, rows),
        }  # fmt: skip


def paths_of(loaded: backbone.Backbone) -> list[str]:
    """The fast paths that serve a loaded model, by what its layers have."""
    kinds = {type(module) for module in loaded.model.modules()}
    found = ["gated MLP"] if GatedMlp in kinds else []
    found += ["RMSNorm"] if RmsNorm in kinds else []
    if packed_rows.supports(loaded.model):
        short = packed_rows.EndsAlone.serves(loaded.model.layers[-1])
        found += ["prefix cache", *(["last layer short"] if short else [])]
    return found


def lora_of(loaded: backbone.Backbone, rows: list[list[int]]) -> str:
    """The names that LoRA goes on, all of which a gradient reaches; or why there is none."""
    try:
        wrapped = adapter.add_lora(loaded, Lora(rank=2, dropout=0), 0)
    except BackboneError as error:
        return f"refused: {error}"
    padding = None if packed_rows.supports(wrapped.model) else "right"
    row_vectors(wrapped, rows, "last", padding=padding).square().sum().backward()
    trained = {n: p for n, p in wrapped.model.named_parameters() if "lora_B" in n}
    still = [n for n, p in trained.items() if p.grad is None or not p.grad.abs().max() > 0]
    names = sorted({n.split(".lora_B")[0].rpartition(".")[2] for n in trained})
    return f"{', '.join(names)}" + (f"; no gradient reaches {len(still)} of {len(trained)}: {still[0]}" if still else "")


HEAD = """# How each family of decoders is read

Made by `.venv/bin/python docs/families.py`; `pytest tests/model/test_families.py` runs the odd ones. Each family is a random model of a few thousand weights, saved with its head and read as any base is. **Rows** is what the probe at load decides on the very model (`model.probe`): packed, one row after the other without padding; padded; or refused. **Cosine** is the least of a batch's vectors to those of each row alone by transformers' own model, in float32, with rows beyond every window. **Fast paths** are chosen by what a layer has. **LoRA** names the projections that an adapter goes on by default, which are all those of attention and MLP and which a gradient was seen to reach; where some are no linear layers, it is refused until `lora.targets` names the others.

| family | type | rows | cosine | fast paths | LoRA |
|---|---|---|---|---|---|
"""


def line(name: str, found: dict) -> str:
    rows = found["rows"] + (f" up to {found['longest']} tokens" if found.get("longest") else "")
    rows += f": {found['why']}" if found["why"] else ""
    cosine = f"{found['cosine']:.5f}" if "cosine" in found else ""
    return f"| {name} | `{FAMILIES[name][0]}` | {rows} | {cosine} | {', '.join(found['paths'])} | {found['lora']} |"


def write(page: Path = PAGE) -> None:
    made = {name: row(name) for name in FAMILIES}
    counts = Counter(found["rows"] for found in made.values())
    told = ", ".join(f"{count} {how}" for how, count in counts.most_common())
    lines = [line(name, found) for name, found in made.items()]
    text = HEAD + "\n".join(lines) + f"\n\n{len(made)} families: {told}; transformers {transformers.__version__}.\n"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    write()
    print(PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE)
