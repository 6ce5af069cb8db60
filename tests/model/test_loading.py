"""A model is loaded whole and read as its folder says, or refused with what is missing."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from synthembed.ground.weights.embedded import BackboneError
from synthembed.model import adapter, backbone, export
from synthembed.model.encoder import Encoder, EncodingError
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import Backbone as Settings
from synthembed.profile.settings import Lora
from tiny_models import byte_tokenizer, saved_base
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, RobertaConfig

TEXTS = ["the bees find their way home", "the sun", "a longer text about the mill by the river"]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456789\n"


def load(folder) -> backbone.Backbone:
    return backbone.load(Settings(model=str(folder), dtype="float32"))


def renamed(folder, rename) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {new: value for name, value in weights.items() if (new := rename(name))}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def with_more(folder, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {name: torch.zeros(4)}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda n: f"base_model.model.{n}", r"lacks 20 of the 20 .* it has 20 under other names, such as base_model"),
        (lambda n: f"encoder.{n}", r"lacks 20 of the 20 .* such as encoder\."),
        (lambda n: None if n.startswith("layers.1.") else n, r"lacks 9 of the 20 .* such as layers\.1\."),
        (lambda n: n.replace("q_proj.", "q_proj.base_layer."), r"lacks 2 of the 20 .* such as layers\.0\.self_attn\.q_proj"),
        (lambda n: None if n == "norm.weight" else n, r"lacks 1 of the 20 .* such as norm\.weight"),
    ],
)  # fmt: skip
def test_weights_that_are_not_there_are_named(tiny_folder, rename, said):
    renamed(tiny_folder, rename)
    with pytest.raises(BackboneError, match=said):
        load(tiny_folder)


@pytest.mark.parametrize(
    "name", ["layers.0.self_attn.q_proj.bias", "layers.1.mlp.up_proj.lora_A.default.weight"]
)
def test_weights_that_nobody_reads_are_named(tiny_folder, name):
    with_more(tiny_folder, name)
    with pytest.raises(
        BackboneError, match=rf"1 weights that its architecture \(llama\) does not read, such as {name}"
    ):
        load(tiny_folder)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_and_its_prefix_are_no_alarm(tiny_folder, tied):
    expected = Encoder(load(tiny_folder)).encode(TEXTS)
    config = AutoConfig.from_pretrained(tiny_folder, tie_word_embeddings=tied)
    whole = AutoModelForCausalLM.from_config(config)
    whole.model.load_state_dict(load_file(tiny_folder / "model.safetensors"))
    whole.save_pretrained(tiny_folder)
    assert any(name.startswith("model.") for name in load_file(tiny_folder / "model.safetensors"))
    assert np.allclose(Encoder(load(tiny_folder)).encode(TEXTS), expected, atol=1e-6)


def test_layers_behind_the_last_one_are_no_alarm(tiny_folder):
    with_more(tiny_folder, "layers.2.eh_proj.weight")  # predicts further tokens, as DeepSeek's
    load(tiny_folder)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_named(tiny_folder, file):
    (tiny_folder / file).write_bytes(POINTER)
    with pytest.raises(BackboneError, match=rf"{file} is a pointer of git-lfs .*git lfs pull"):
        load(tiny_folder)


def test_a_pointer_that_nobody_reads_is_no_alarm(tiny_folder):
    (tiny_folder / "pytorch_model.bin").write_bytes(POINTER)
    load(tiny_folder)


def test_shards_are_whole(tmp_path):
    saved_base(tmp_path, max_shard_size="30KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    load(tmp_path)
    whole = shards[1].read_bytes()
    for spoiled in (whole[: len(whole) // 2], whole[:3], b""):
        shards[1].write_bytes(spoiled)
        with pytest.raises(
            BackboneError, match=rf"{shards[1].name} \([\d,]+ bytes\) is no whole safetensors file"
        ):
            load(tmp_path)
    shutil.copy(shards[0], shards[1])
    with pytest.raises(BackboneError, match=rf"{shards[1].name} lacks \d+ tensors that the index names"):
        load(tmp_path)
    shards[1].unlink()
    with pytest.raises(BackboneError, match=rf"index.json names {shards[1].name}, which is not there"):
        load(tmp_path)


def test_weights_that_are_not_finite_are_refused(tiny_folder):
    weights = load_file(tiny_folder / "model.safetensors")
    weights["layers.1.mlp.down_proj.weight"][3, 4] = float("nan")
    save_file(weights, tiny_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match="states are not finite"):
        load(tiny_folder)


def test_an_adapter_is_no_model(tiny_folder, tmp_path):
    loaded = adapter.add_lora(load(tiny_folder), Lora(rank=2), 0)
    with pytest.raises(BackboneError, match="is a LoRA adapter"):
        load(export.export_adapter(loaded, tmp_path / "adapter"))


def test_vectors_that_are_not_finite_are_never_returned(llama):
    encoder = Encoder(llama)
    with torch.no_grad():  # of one token alone: no probe sees it
        llama.model.embed_tokens.weight[llama.contract.ids(["z"], 8)[0][1]] = float("inf")
    encoder.encode(["the cat"])
    with pytest.raises(
        EncodingError, match=r"1 of 2 vectors of a batch are not finite, such as that of row 1"
    ):
        encoder.encode_rows(encoder.rows(["the cat", "z"]))


# --- as a sentence-transformers folder says ------------------------------------------------------


def exported(llama, folder, pooling="last"):
    export.export(llama, folder, pooling, "none", "", 64)
    return folder


def change(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def theirs(folder, texts=TEXTS):
    return SentenceTransformer(str(folder), device="cpu").encode(texts)


@pytest.mark.parametrize("pooling", ["last", "mean", "weighted-mean"])
def test_an_exported_folder_is_read_as_it_was_made(llama, tmp_path, pooling):
    encoder = Encoder(load(exported(llama, tmp_path / "m", pooling)))
    assert (encoder.pooling, encoder.max_length) == (pooling, 64)
    texts = [*TEXTS, "a long text " * 20]
    assert np.allclose(encoder.encode(texts), theirs(tmp_path / "m", texts), atol=1e-5)


def test_a_folder_of_todays_sentence_transformers_is_read(llama, tmp_path):
    SentenceTransformer(str(exported(llama, tmp_path / "a", "mean")), device="cpu").save(str(tmp_path / "b"))
    assert np.allclose(Encoder(load(tmp_path / "b")).encode(TEXTS), theirs(tmp_path / "b"), atol=1e-5)


def test_no_normalisation_and_the_default_prompt_are_taken(llama, tmp_path):
    folder = exported(llama, tmp_path / "m", "mean")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    change(folder / "config_sentence_transformers.json", prompts={"q": "query: "}, default_prompt_name="q")
    found = Encoder(load(folder)).encode(TEXTS)
    assert np.allclose(found, theirs(folder), atol=1e-4)
    assert not np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-2)


@pytest.mark.parametrize("kind", ["Dense", "LayerNorm", "WeightedLayerPooling"])
def test_a_module_that_is_not_computed_is_named(llama, tmp_path, kind):
    folder = exported(llama, tmp_path / "m")
    modules = json.loads((folder / "modules.json").read_text())
    more = {"idx": 3, "name": "3", "path": f"3_{kind}", "type": f"sentence_transformers.models.{kind}"}
    (folder / "modules.json").write_text(json.dumps([*modules, more]))
    loaded = load(folder)  # as a base it may serve
    with pytest.raises(EncodingError, match=f"its {kind} module is not computed here"):
        Encoder(loaded)
    Encoder(loaded, "mean")  # which was asked for by name


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("1_Pooling/config.json", {"pooling_mode_lasttoken": False, "pooling_mode_cls_token": True}, "it pools by cls"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "it pools by max and lasttoken"),
        ("1_Pooling/config.json", {"pooling_mode": "mean_sqrt_len_tokens"}, "it pools by mean_sqrt_len_tokens"),
        ("1_Pooling/config.json", {"include_prompt": False}, "it leaves its prompt out"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "it lower-cases texts itself"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "its default prompt 'x' is not among"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "it is a SparseEncoder"),
        ("config_sentence_transformers.json", {"truncate_dim": 16}, "it keeps the first 16 numbers of a vector"),
        ("config.json", {"auto_map": {"AutoModel": "modeling.Model"}}, "its layers are code of its own"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "it cuts long texts at their beginning"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "its states are those of fill-mask"),
        ("sentence_bert_config.json", {"config_args": {"num_hidden_layers": 1}}, "it sets config_kwargs: num_hidden_layers = 1"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"add_special_tokens": False}}}, "it sets processing_kwargs"),
        ("sentence_bert_config.json", {"modality_config": {"message": {"format": "flat"}}}, "it puts a chat template around"),
        ("sentence_bert_config.json", {"modality_config": {"text": {"method": "get_text_features"}}}, "it reads texts by {'method'"),
    ],
)  # fmt: skip
def test_what_a_folder_says_and_is_not_computed_is_named(llama, tmp_path, file, values, said):
    change(exported(llama, tmp_path / "m") / file, **values)
    with pytest.raises(EncodingError, match=said):
        Encoder(load(tmp_path / "m"))


@pytest.mark.parametrize(
    ("said", "tokenizer", "config", "longest"),
    [
        ({"max_seq_length": None, "do_lower_case": False}, 40, 512, 40),
        ({}, 40, 32, 32),
        ({}, 10**30, 48, 48),
        ({"tokenizer_args": {"model_max_length": 20}, "max_seq_length": 40}, 512, 512, 20),
        ({"max_seq_length": 24}, 512, 512, 24),
    ],
)
def test_texts_are_cut_where_the_folder_cuts_them(llama, tmp_path, said, tokenizer, config, longest):
    """Today's sentence-transformers writes the length into the tokenizer's file alone."""
    folder = exported(llama, tmp_path / "m")
    (folder / "sentence_bert_config.json").write_text(json.dumps(said))
    change(folder / "tokenizer_config.json", model_max_length=tokenizer)
    change(folder / "config.json", max_position_embeddings=config)
    encoder, texts = Encoder(load(folder)), ["the bees " * 30, "the sun"]
    assert encoder.max_length == longest
    assert np.allclose(encoder.encode(texts), theirs(folder, texts), atol=1e-5)


def test_a_length_beyond_the_learned_positions_is_cut_to_them(llama, tmp_path):
    """A RoBERTa's config counts two positions that no token has."""
    folder = exported(llama, tmp_path / "m")
    config = RobertaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    change(folder / "sentence_bert_config.json", max_seq_length=None)
    assert Encoder(load(folder)).max_length == 32


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ((0, 2, 1), "in an order that is not computed here: Transformer, Normalize, Pooling"),
        ((0, 1, 1), "in an order that is not computed here: Transformer, Pooling, Pooling"),
        ((1, 2), "in an order"),
    ],
)
def test_modules_in_another_order_are_refused(llama, tmp_path, order, said):
    folder = exported(llama, tmp_path / "m")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([modules[n] for n in order]))
    with pytest.raises(EncodingError, match=said):
        Encoder(load(folder))


@pytest.mark.parametrize(
    ("number", "values", "said"),
    [
        (0, {"type": "custom_st.Transformer"}, "its module custom_st.Transformer is code of its own"),
        (1, {"type": "modeling.Pooling"}, "its module modeling.Pooling is code of its own"),
        (0, {"path": "0_Transformer"}, "its model is the one in 0_Transformer, not that beside modules.json"),
    ],
)
def test_a_module_that_is_another_than_its_name_says_is_refused(llama, tmp_path, number, values, said):
    folder = exported(llama, tmp_path / "m")
    modules = json.loads((folder / "modules.json").read_text())
    modules[number] |= values
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EncodingError, match=said):
        Encoder(load(folder))


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "xlm-roberta"])
def test_settings_of_texts_under_an_older_name_are_read(llama, tmp_path, kind):
    folder = exported(llama, tmp_path / "m")
    (folder / "sentence_bert_config.json").rename(folder / f"sentence_{kind}_config.json")
    change(folder / f"sentence_{kind}_config.json", max_seq_length=12)
    assert Encoder(load(folder)).max_length == 12
    change(folder / f"sentence_{kind}_config.json", do_lower_case=True)
    with pytest.raises(EncodingError, match="it lower-cases texts itself"):
        Encoder(load(folder))


def test_the_code_of_a_base_does_not_go_along(llama, tmp_path):
    llama.model.config.auto_map = {"AutoModel": "modeling.Model"}
    folder = exported(llama, tmp_path / "m")
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    del llama.model.config.auto_map
    Encoder(load(folder))


def test_weights_of_zeros_are_told_and_vectors_of_zeros_are_never_returned(tiny_folder, capsys):
    weights = load_file(tiny_folder / "model.safetensors")
    holes = {name: torch.zeros_like(w) if "layers.1.mlp" in name else w for name, w in weights.items()}
    save_file(holes, tiny_folder / "model.safetensors", {"format": "pt"})
    load(tiny_folder)
    assert (
        "3 weights" in (told := capsys.readouterr().out)
        and "layers.1.mlp.down_proj.weight: is it whole?" in told
    )
    save_file({name: torch.zeros_like(w) for name, w in weights.items()}, tiny_folder / "model.safetensors")
    with pytest.raises(EncodingError, match="3 of 3 vectors of a batch are all zeros"):
        Encoder(load(tiny_folder)).encode(TEXTS)


def test_dropout_changes_no_vector(llama, tmp_path):
    folder = exported(llama, tmp_path / "m")
    expected = Encoder(load(folder)).encode(TEXTS)
    modules = json.loads((folder / "modules.json").read_text())
    more = {"idx": 3, "name": "3", "path": "3_Dropout", "type": "sentence_transformers.models.Dropout"}
    (folder / "modules.json").write_text(json.dumps([*modules, more]))
    assert np.array_equal(Encoder(load(folder)).encode(TEXTS), expected)


def test_a_folder_that_is_not_whole_is_refused(llama, tmp_path):
    folder = exported(llama, tmp_path / "m")
    shutil.rmtree(folder / "1_Pooling")
    with pytest.raises(EncodingError, match=r"1_Pooling/config.json, which says how it pools, is not there"):
        Encoder(load(folder))
    (folder / "modules.json").write_text('{"0": "Transformer"}')
    with pytest.raises(BackboneError, match=r"modules.json is no list of modules"):
        load(folder)


def test_an_old_folder_that_has_its_model_inside_says_what_to_do(llama, tmp_path):
    folder = exported(llama, tmp_path / "m")
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "0_Transformer").mkdir()
    (folder / "config.json").rename(folder / "0_Transformer" / "config.json")
    with pytest.raises(BackboneError, match=r"has its model in 0_Transformer, .*\.save\(another\)"):
        load(folder)


# --- the tokens around a text --------------------------------------------------------------------


def with_template(single: str, *names: str):
    tokenizer = byte_tokenizer("qwen")
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    tokenizer._tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=ids)
    return tokenizer


def test_the_templates_last_token_is_the_one_that_ends_a_text():
    """Qwen3-Embedding's is not its tokenizer's eos."""
    tokenizer = with_template("$A <|endoftext|>", "<|endoftext|>")
    assert tokenizer.eos_token == "<|im_end|>"
    for as_saved in (False, True):
        assert (
            TokenContract.of(tokenizer, as_saved).ids(["the cat"], 16)[0] == tokenizer("the cat")["input_ids"]
        )


def test_a_base_without_a_template_gets_bos_and_eos():
    contract = TokenContract.of(byte_tokenizer("llama"))
    (row,) = contract.ids(["the cat"], 16)
    assert (row[0], row[-1]) == (1, 2) and row.count(2) == 1


def test_a_saved_model_without_a_last_token_is_refused(llama, tmp_path):
    folder = exported(llama, tmp_path / "m")
    tokenizer = byte_tokenizer("llama")
    tokenizer.save_pretrained(folder)
    with pytest.raises(BackboneError, match="puts no token after a text"):
        load(folder)


def test_more_than_one_token_on_a_side_is_refused():
    tokenizer = with_template("$A <|im_end|> <|endoftext|>", "<|im_end|>", "<|endoftext|>")
    with pytest.raises(
        BackboneError, match=r"puts \[\] before a text and \['<\|im_end\|>', '<\|endoftext\|>'\] after"
    ):
        TokenContract.of(tokenizer)


# --- LoRA ----------------------------------------------------------------------------------------


def test_a_target_that_is_misspelt_is_named(llama):
    with pytest.raises(
        BackboneError, match=r"lora.targets: gate_porj is no projection of this llama model, which has down"
    ):
        adapter.add_lora(llama, Lora(targets=["q_proj", "gate_porj"]), 0)
