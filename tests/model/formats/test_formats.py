"""Each format is loaded by its own runtime, and its vectors are ours."""

import json
import runpy
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from synthembed import profile
from synthembed.model import adapter, export
from synthembed.model import backbone as backbones
from synthembed.model.backbone import Backbone
from synthembed.model.formats import gguf_file, onnx_graph, parity
from synthembed.model.formats.parity import ExportError
from synthembed.model.tokens import TokenContract
from synthembed.report import publishing
from tiny_models import byte_tokenizer, tiny_model
from transformers import AutoModel, BertConfig, Gemma3TextConfig, RobertaConfig


def exported(folder, style="llama", pooling="last", model=None, window=None):
    model = tiny_model(style, window=window) if model is None else model
    torch.manual_seed(1)
    for name, weight in model.named_parameters():  # vectors of texts that differ are to differ
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.3 if "embed" in name else 0.2)
        else:
            torch.nn.init.normal_(weight, mean=0.0 if "gemma" in model.config.model_type else 1.0, std=0.1)
    model.config.use_cache = False
    backbone = Backbone(
        model, TokenContract.of(byte_tokenizer("llama" if style == "gemma" else style)), {"model": "tiny"}
    )
    return export.export(backbone, folder / "model", pooling, "natural", "a card", max_length=2048)


def tiny_gemma(layers=7):
    config = Gemma3TextConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, sliding_window=8, max_position_embeddings=4096,
    )  # fmt: skip
    return AutoModel.from_config(config).eval()


def test_texts_have_vectors_that_differ(tmp_path):
    """Else parity would say nothing."""
    ours = parity.reference(exported(tmp_path))
    alike = ours @ ours.T - 2 * np.eye(len(ours))
    assert alike.max() < parity.LEAST - 0.01


@pytest.mark.parametrize("style", ["llama", "mistral", "qwen", "gemma"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_llama_cpp_has_our_vectors(tmp_path, style, pooling):
    source = exported(tmp_path, style, pooling, tiny_gemma() if style == "gemma" else None)
    written = gguf_file.write(source, tmp_path / "model.gguf")
    assert (
        parity.check(source, "llama.cpp", lambda texts: gguf_file.encode(written.path, texts)) >= parity.LEAST
    )
    assert any("prompts" in loss for loss in written.losses)


@pytest.mark.parametrize("style", ["llama", "mistral", "qwen", "gemma"])
@pytest.mark.parametrize("pooling", ["last", "mean", "weighted-mean"])
def test_onnxruntime_has_our_vectors(tmp_path, style, pooling):
    pytest.importorskip("onnxruntime")
    source = exported(tmp_path, style, pooling, tiny_gemma() if style == "gemma" else None, window=8)
    onnx_graph.write(source, tmp_path / "onnx")
    assert (
        parity.check(source, "onnxruntime", lambda texts: onnx_graph.encode(tmp_path / "onnx", texts))
        > 0.99999
    )


def encoder_of(kind: str):
    sizes = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    if kind == "bert":
        return AutoModel.from_config(BertConfig(**sizes, max_position_embeddings=4096)).eval()
    if kind == "roberta":  # whose positions begin behind the pad token's
        return AutoModel.from_config(
            RobertaConfig(**sizes, max_position_embeddings=4200, pad_token_id=0)
        ).eval()
    both = tiny_gemma()
    backbones.look_both_ways(both)
    return both


@pytest.mark.parametrize("kind", ["bert", "roberta", "a gemma that looks both ways"])
def test_onnxruntime_has_an_encoders_vectors(tmp_path, kind):
    pytest.importorskip("onnxruntime")
    source = exported(tmp_path, "llama", "mean", encoder_of(kind))
    onnx_graph.write(source, tmp_path / "onnx")
    encode = lambda texts: onnx_graph.encode(tmp_path / "onnx", texts)  # noqa: E731
    assert parity.check(source, "onnxruntime", encode) > 0.99999


def test_a_default_prompt_is_in_no_comparison_and_a_merged_model_has_no_adapter(tmp_path):
    pytest.importorskip("onnxruntime")
    source = exported(tmp_path)
    path = source / "config_sentence_transformers.json"
    said = json.loads(path.read_text())
    path.write_text(
        json.dumps(said | {"prompts": said["prompts"] | {"all": "x: "}, "default_prompt_name": "all"})
    )
    for form in ("sentence-transformers", "onnx"):
        told = publishing.export(None, tmp_path / form, form, str(source))
        assert "the least cosine to our vectors is 1.0000" in told.lower() or "0.9999" in told
    with pytest.raises(FileNotFoundError, match="none apart: choose sentence-transformers"):
        publishing.export(None, tmp_path / "peft", "peft", str(source))


def test_sentence_transformers_has_our_vectors(tmp_path):
    from sentence_transformers import SentenceTransformer

    source = exported(tmp_path)
    model = SentenceTransformer(str(source), device="cpu")
    assert parity.check(source, "sentence-transformers", lambda texts: model.encode(list(texts))) > 0.99999


def test_a_model_saved_in_half_precision_is_compared_in_float32(tmp_path):
    """Read in bfloat16, as it was saved, its vectors are not of length 1 to three digits, and it would be refused."""
    from sentence_transformers import SentenceTransformer

    source = exported(tmp_path, model=tiny_model("llama", layers=12).to(torch.bfloat16))
    in_half = SentenceTransformer(str(source), device="cpu").encode(parity.TEXTS)
    with pytest.raises(ExportError):
        parity.check(source, "any", lambda texts: in_half)
    assert "least cosine" in publishing.export(None, tmp_path / "out", "sentence-transformers", str(source))


def test_a_missing_eos_is_noticed(tmp_path):
    """The fault that last-token pooling suffers most from: the check is to see it."""
    source = exported(tmp_path)
    written = gguf_file.write(source, tmp_path / "model.gguf")
    without = lambda texts: gguf_file.encode(written.path, [t + " and on" for t in texts])  # noqa: E731
    with pytest.raises(ExportError, match=r"another vector for .* texts"):
        parity.check(source, "llama.cpp", without)
    with pytest.raises(ExportError, match="length"):
        parity.check(source, "any", lambda texts: 2 * parity.reference(source, texts))
    with pytest.raises(ExportError, match="another vector"):
        parity.check(source, "any", lambda texts: np.full((len(texts), 32), np.nan))


def test_what_gguf_cannot_carry_is_refused_or_said(tmp_path):
    windowed = gguf_file.write(exported(tmp_path / "a", "mistral", window=8), tmp_path / "a.gguf")
    assert any("window of 8" in loss for loss in windowed.losses)
    with pytest.raises(ExportError, match="pooling"):
        gguf_file.write(exported(tmp_path / "b", pooling="weighted-mean"), tmp_path / "b.gguf")
    source = exported(tmp_path / "c")
    config = json.loads((source / "config.json").read_text())
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 2048}
    (source / "config.json").write_text(json.dumps(config | {"rope_parameters": yarn}))
    with pytest.raises(ExportError, match="scaled"):
        gguf_file.write(source, tmp_path / "c.gguf")
    (source / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(ExportError, match="bert"):
        gguf_file.write(source, tmp_path / "d.gguf")
    broken = exported(tmp_path / "e")
    tokenizer = json.loads((broken / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (broken / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ExportError, match="cuts text"):
        gguf_file.write(broken, tmp_path / "e.gguf")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_of_todays_sentence_transformers_is_exported(tmp_path):
    """It names its pooling in one word, and its length in the tokenizer's file alone, which may cut and pad by itself."""
    pytest.importorskip("onnxruntime")
    source = exported(tmp_path, pooling="mean")
    (source / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 32, "pooling_mode": "mean"}')
    (source / "sentence_bert_config.json").write_text("{}")
    change(source / "tokenizer_config.json", model_max_length=40)
    cuts = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    pads = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2, "pad_type_id": 0,
            "pad_token": "</s>"}  # fmt: skip
    change(source / "tokenizer.json", truncation=cuts, padding=pads)
    onnx_graph.write(source, tmp_path / "onnx")
    encode = lambda texts: onnx_graph.encode(tmp_path / "onnx", texts)  # noqa: E731
    assert parity.check(source, "onnxruntime", encode) > 0.99999
    assert any("at 40 tokens" in loss for loss in gguf_file.write(source, tmp_path / "m.gguf").losses)


@pytest.mark.parametrize("form", ["gguf", "onnx"])
def test_what_no_format_carries_is_refused_though_no_vector_is_compared(tmp_path, form):
    source = exported(tmp_path, pooling="mean")
    refuse = lambda said: pytest.raises(ExportError, match=said)  # noqa: E731
    modules = json.loads((source / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    for found, said in (([*modules[:2], dense], "its Dense module"), (modules, "lower-cases texts")):
        (source / "modules.json").write_text(json.dumps(found))
        change(source / "sentence_bert_config.json", do_lower_case="lower" in said)
        with refuse(said):
            publishing.export(None, tmp_path / "out", form, str(source), check=False)
    change(source / "sentence_bert_config.json", do_lower_case=False)
    if form == "gguf":
        change(source / "config.json", is_causal=False)
        with refuse("looks both ways"):
            publishing.export(None, tmp_path / "out", form, str(source), check=False)
    else:
        with refuse("precision f16: only gguf has it"):
            publishing.export(None, tmp_path / "out", form, str(source), "f16")
        (source / "modules.json").write_text(json.dumps(modules[:2]))
        pytest.importorskip("onnxruntime")
        said = publishing.export(None, tmp_path / "out", form, str(source), check=False)
        assert "the length of vectors: the model leaves it as it is, and here it is 1" in said


def test_gguf_reads_a_folder_as_transformers_does(tmp_path):
    """Saved with its head, beside a file of other names, and RoPE's scaling under the name of transformers 4."""
    source = exported(tmp_path)
    weights = load_file(source / "model.safetensors")
    head = {"lm_head.weight": weights["embed_tokens.weight"].clone()}
    with_head = {f"model.{name}": weight for name, weight in weights.items()} | head
    save_file(with_head, source / "model.safetensors", {"format": "pt"})
    save_file({"tok_embeddings.weight": torch.ones(2, 2)}, source / "consolidated.safetensors")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["<image>"] = 300  # behind the last row
    image = tokenizer["added_tokens"][0] | {"id": 300, "content": "<image>"}
    change(
        source / "tokenizer.json", model=tokenizer["model"], added_tokens=[*tokenizer["added_tokens"], image]
    )
    written = gguf_file.write(source, tmp_path / "model.gguf")
    encode = lambda texts: gguf_file.encode(written.path, texts)  # noqa: E731
    assert parity.check(source, "llama.cpp", encode, parity.TEXTS[:3]) >= parity.LEAST
    change(source / "config.json", rope_parameters=None, rope_scaling={"type": "linear", "factor": 4.0})
    with pytest.raises(ExportError, match=r"RoPE is scaled \(linear\)"):
        gguf_file.write(source, tmp_path / "scaled.gguf")
    (source / "model.safetensors").unlink()
    change(source / "config.json", rope_scaling=None)
    with pytest.raises(ExportError, match=r"has no model\.safetensors"):
        gguf_file.write(source, tmp_path / "none.gguf")


@pytest.mark.parametrize("form", ["gguf", "onnx"])
def test_a_folder_without_a_tokenizer_file_is_refused_at_once(tmp_path, form):
    source = exported(tmp_path)
    (source / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match=r"model has no tokenizer\.json"):
        publishing.export(None, tmp_path / "out", form, str(source), check=False)


def test_the_script_beside_a_graph_takes_one_text_and_many(tmp_path):
    """One text is no list of its letters, and ten thousand are not one batch."""
    pytest.importorskip("onnxruntime")
    onnx_graph.write(exported(tmp_path), tmp_path / "onnx")
    encode = runpy.run_path(str(tmp_path / "onnx" / "run_onnx.py"))["encode"]
    texts = [f"text {n}" for n in range(70)]
    alone = np.concatenate([encode(text) for text in texts])
    assert alone.shape == (70, 32) and np.allclose(encode(texts), alone, atol=1e-5)
    sizes, session = [], encode.__globals__["session"]

    class Noting:
        def run(self, names, given):
            sizes.append(len(given["input_ids"]))
            return session.run(names, given)

    encode.__globals__["session"] = Noting()
    encode(texts)
    assert sum(sizes) == 70 and max(sizes) == 32


def test_the_command_writes_a_card_and_leaves_nothing_of_a_refusal(tmp_path, monkeypatch):
    source = exported(tmp_path)
    said = publishing.export(None, tmp_path / "out", "gguf", str(source), "f16")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "cosine" in said and "does not carry" in card and "Instruct:" in card
    with pytest.raises(FileExistsError):
        publishing.export(None, tmp_path / "out", "gguf", str(source))
    monkeypatch.setattr(gguf_file, "encode", lambda path, texts: np.ones((len(texts), 32)) / 32**0.5)
    with pytest.raises(ExportError):
        publishing.export(None, tmp_path / "other", "gguf", str(source))
    assert not (tmp_path / "other").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=f"{tmp_path}/none/modules.json is missing: --model is a folder"
    ):
        publishing.export(None, tmp_path / "third", "onnx", "~/none")  # as --model=~/none comes from a shell
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file is a file, or not empty"):
        publishing.export(None, tmp_path / "file", "onnx", str(source))


def test_peft_and_sentence_transformers_are_copied(tmp_path):
    source = exported(tmp_path)
    publishing.export(None, tmp_path / "st", "sentence-transformers", str(source))
    assert np.array_equal(parity.reference(tmp_path / "st"), parity.reference(source))


@pytest.fixture
def trained_run(tmp_path):
    """A run whose stage 03 left a model and its adapter."""
    base = exported(tmp_path / "base")
    settings = profile.Backbone(model=str(base), dtype="float32", pooling="last")
    adapted = adapter.add_lora(backbones.load(settings), profile.Lora(), 0)
    torch.manual_seed(2)
    for name, weight in adapted.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    stage = tmp_path / "run" / "03_train"
    export.export_adapter(adapted, stage / "adapter")
    export.export(adapter.merge_lora(adapted), stage / "model", "last", "natural", "a card", max_length=2048)
    record = {"settings": {"backbone": settings.model_dump(), "train": {"instruction": "natural"}}}
    (stage / "stage.json").write_text(json.dumps(record))
    return tmp_path / "run", base


def test_an_adapter_loaded_by_peft_has_our_vectors(trained_run, tmp_path):
    run, base = trained_run
    model = run / "03_train" / "model"
    assert parity.cosines(parity.reference(model), parity.reference(base)).min() < 0.99  # it does something
    told = publishing.export(run, tmp_path / "peft", "peft")
    card = (tmp_path / "peft" / "README.md").read_text()
    assert "least cosine to the merged model's vectors is 1.0000" in told and "1.0000" in card
    assert "PeftModel.from_pretrained" in card and "pooling, eos" in card and str(base) in card
    weights = run / "03_train" / "adapter" / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(w) for name, w in load_file(weights).items()}, weights)
    with pytest.raises(ExportError, match="peft has another vector"):
        publishing.export(run, tmp_path / "other", "peft")
    assert not (tmp_path / "other").exists()


def test_a_run_whose_training_leaves_no_adapter_is_told_so(trained_run, tmp_path):
    """After a pre-training, or one of all weights: to run the training again would not make one."""
    run, _ = trained_run
    shutil.rmtree(run / "03_train" / "adapter")
    with pytest.raises(FileNotFoundError, match="run has no adapter: its base was pre-trained"):
        publishing.export(run, tmp_path / "peft", "peft")
