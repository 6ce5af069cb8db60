"""Families of decoders at tiny size, by the function that makes docs/families.md."""

import importlib.util
import re

import pytest
from synthembed.ground.files import ROOT

ODD = {
    "Llama": "packed", "Llama, dynamic RoPE": "packed", "Phi-3, longrope": "packed", "EXAONE 4": "packed",
    "GPT-NeoX": "packed", "Gemma 3 (with images)": "packed", "Mistral Small 3.1 (with images)": "packed",
    "Llama 4": "padded", "LFM2": "padded", "Granite 4 hybrid": "padded", "Nemotron": "padded",
    "Qwen3.5 (with images)": "padded", "Mamba": "padded", "Falcon": "padded", "DeepSeek-V3.2": "padded", "MiniMax M3": "padded", "BLIP-2 (with images)": "padded",
    "T5 (encoder-decoder)": "refused",
}  # fmt: skip


def page():
    spec = importlib.util.spec_from_file_location("families", ROOT / "docs" / "families.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ODD)
def test_a_family_gives_its_own_vectors_or_is_refused(name):
    found = page().row(name)
    assert found["rows"] == ODD[name]
    if found["rows"] != "refused":
        assert found["cosine"] > 0.9999 and "no gradient" not in found["lora"]
    if found["rows"] == "packed":
        assert "prefix cache" in found["paths"] and not found["why"]
    else:
        assert found["why"]


@pytest.mark.parametrize("name", ["Qwen3", "Gemma 3", "OLMo 2", "Granite"])
def test_the_fast_paths_serve_more_than_llama(name):
    paths = page().row(name)["paths"]
    assert paths == ["gated MLP", "RMSNorm", "prefix cache", "last layer short"]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("Phi", "dense, fc1, fc2, k_proj, q_proj, v_proj"),
        ("Phi-3", "down_proj, gate_up_proj, o_proj, qkv_proj"),
        ("GLM-4", "down_proj, gate_up_proj, k_proj, o_proj, q_proj, v_proj"),
        ("StarCoder 2", "c_fc, c_proj, k_proj, o_proj, q_proj, v_proj"),
        ("GPT-2", "c_attn, c_fc, c_proj"),
    ],
)
def test_lora_goes_on_all_projections_by_the_names_of_the_family(name, names):
    assert page().row(name)["lora"] == names


def test_lora_on_fused_experts_is_refused_by_name():
    assert re.match(
        r"refused: .*mixtral.*down_proj \[weight\], gate_up_proj \[weight\]", page().row("Mixtral")["lora"]
    )


def test_the_page_has_all_families_and_is_of_this_table():
    families, text = page(), (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    assert (
        re.findall(r"^\| ([^|]+) \| `", text, re.M) == list(families.FAMILIES)
        and len(families.FAMILIES) >= 30
    )
