"""A base that is loaded again: the same weights, whatever was done to the one before."""

import json
import os

import pytest
import torch
from sentence_transformers import SentenceTransformer
from synthembed import profile
from synthembed.ground.weights.embedded import BackboneError
from synthembed.ground.weights.saved_models import recipe_of
from synthembed.model import adapter, backbone, export
from synthembed.model.encoder import Encoder
from synthembed.model.export import tokenizer_with_contract
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, saved_base, tiny_model
from tokenizers import normalizers
from transformers import AutoModel, PhobertTokenizer, RobertaConfig


def weights(loaded: backbone.Backbone) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in loaded.model.state_dict().items()}


@pytest.mark.parametrize("initialisation", ["pretrained", "random"])
def test_a_base_that_was_trained_leaves_the_next_one_alone(tiny_folder, initialisation):
    settings = profile.Backbone(model=str(tiny_folder), layers=1, initialisation=initialisation)
    first = backbone.load(settings, seed=3)
    before, said = weights(first), Encoder(first).encode(["the cat"])
    adapted = adapter.add_lora(first, profile.Lora(rank=4, alpha=8), 0)
    with torch.no_grad():
        for p in adapted.model.parameters():
            p.add_(1.0)
    adapter.merge_lora(adapted)
    tokenizer_with_contract(first.contract)  # what an export does to a tokenizer, it does to a copy
    again = backbone.load(settings, seed=3)
    after = weights(again)
    assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    assert (Encoder(again).encode(["the cat"]) == said).all()
    assert again.contract.tokenizer._tokenizer.to_str() == first.contract.tokenizer._tokenizer.to_str()


def test_a_tokenizer_is_read_once_and_again_when_its_file_changes(tiny_folder):
    settings = profile.Backbone(model=str(tiny_folder))
    first = backbone.load(settings).contract.tokenizer
    tiny_model("llama", seed=1).save_pretrained(tiny_folder)
    os.utime(tiny_folder / "config.json", ns=(1, 1))
    again = backbone.load(settings).contract.tokenizer
    assert backbone.load(settings).contract.tokenizer is again
    path = tiny_folder / "tokenizer.json"
    changed = json.loads(path.read_text())
    changed["model"]["merges"] = changed["model"]["merges"][:1]
    path.write_text(json.dumps(changed))
    assert backbone.load(settings).contract.tokenizer("the cat") != first("the cat")


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_check_in_float32_holds_whatever_the_model_is_in(kind):
    """In bfloat16 the exact way and a wrong one are as far apart; in float32 they are told apart."""
    made = TokenContract.of(byte_tokenizer(kind))
    base = backbone.Backbone(tiny_model(kind, layers=9).bfloat16(), made, {"model": "tiny"})
    few = backbone.exact(base)
    assert few.model.dtype == torch.float32 and few.config.num_hidden_layers == 6
    assert base.model.dtype == torch.bfloat16 and len(base.model.layers) == base.config.num_hidden_layers == 9
    texts = ["the cat sat there", "a bat"]
    plain = Encoder(few, prefix_cache=False).encode(texts, "find the answer")
    cached = Encoder(few).encode(texts, "find the answer")
    assert (plain * cached).sum(1).min() > 0.99999


def test_an_export_is_compared_tensor_by_tensor(llama, tmp_path):
    """As notebook 03 does it, in half precision too; one weight that was saved otherwise is found."""
    llama.model.bfloat16()
    folder = export.export(llama, tmp_path / "model", "last", "natural", "")
    compared, differing = export.weights_that_differ(folder, llama)
    assert compared == len(llama.model.state_dict()) and not differing
    few = backbone.exact(llama, 1)
    exported = SentenceTransformer(str(folder), device="cpu")
    backbone.keep_layers(exported[0].auto_model.float(), few.config.num_hidden_layers)
    texts = ["the cat sat there", "a bat"]
    assert (exported.encode(texts) * Encoder(few).encode(texts)).sum(1).min() > 0.9999
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    assert export.weights_that_differ(folder, llama)[1] == ["layers.1.mlp.up_proj.weight"]


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Own", None]}}, "custom code"),
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}, "custom code"),
        ("config.json", {"dtype": "half-ish"}, "AttributeError: .*half-ish"),
    ],
)
def test_code_of_a_checkpoint_is_refused_and_nobody_is_asked(tiny_folder, monkeypatch, file, values, said):
    asked = []
    monkeypatch.setattr("builtins.input", asked.append)
    change(tiny_folder / file, **values | ({"tokenizer_class": "Own"} if "tok" in file else {}))
    with pytest.raises(BackboneError, match=f"could not be read: .*{said}"):
        backbone.load(profile.Backbone(model=str(tiny_folder)))
    assert not asked


def change(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_weights_that_are_there_twice_are_told(tiny_folder, capsys):
    tiny_model("llama", seed=1).save_pretrained(tiny_folder, max_shard_size="30KB")  # the old file stays
    backbone.load(profile.Backbone(model=str(tiny_folder)))
    assert "its weights twice: model.safetensors is read" in capsys.readouterr().out


@pytest.mark.parametrize("lowers", [True, False])
def test_lower_case_that_the_tokenizer_makes_anyway_is_no_alarm(tmp_path, lowers):
    base = saved_base(tmp_path / "base")
    loaded = backbone.load(profile.Backbone(model=str(base), dtype="float32"))
    loaded.contract.tokenizer._tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), *([normalizers.Lowercase()] if lowers else [])]
    )
    folder = export.export(loaded, tmp_path / "m", "mean", "none", "")
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    change(folder / "config_sentence_transformers.json", prompts={"query": None}, default_prompt_name="query")
    again = backbone.load(profile.Backbone(model=str(folder), dtype="float32"))
    assert bool(again.recipe.refusal) != lowers and again.recipe.prompt == ""
    if lowers:
        theirs = SentenceTransformer(str(folder), device="cpu").encode(["The Bees", "the SUN"])
        assert abs(Encoder(again).encode(["The Bees", "the SUN"]) - theirs).max() < 1e-5
        change(folder / "tokenizer_config.json", do_lower_case=False)
        assert recipe_of(str(folder)).refusal  # a BERT's class follows this file


def test_a_tokenizer_without_a_fast_one_is_exported_as_it_is(tmp_path):
    """PhoBERT's, which many Vietnamese models have."""
    base, letters = tmp_path / "base", "abcdefghijklmnopqrstuvwxyz"
    base.mkdir()
    (base / "vocab.txt").write_text("".join(f"{c}@@ 1\n{c} 1\n" for c in letters))
    (base / "bpe.codes").write_text("t h 10\n")
    PhobertTokenizer(str(base / "vocab.txt"), str(base / "bpe.codes")).save_pretrained(base)
    config = RobertaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=80, pad_token_id=1,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(base)
    loaded = backbone.load(profile.Backbone(model=str(base), dtype="float32"))
    folder, texts = (
        export.export(loaded, tmp_path / "m", "mean", "none", "", 20),
        ["the bees", "a longer text " * 9],
    )
    ours = Encoder(loaded, "mean", 20).encode(texts)
    again = Encoder(backbone.load(profile.Backbone(model=str(folder), dtype="float32")))
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    assert abs(again.encode(texts) - ours).max() < 1e-5 and abs(theirs - ours).max() < 1e-5
    loaded.contract = TokenContract(loaded.contract.tokenizer, None, 3)
    with pytest.raises(
        BackboneError, match="a PhobertTokenizer cannot be saved so that it puts bos None and eos 3"
    ):
        export.export(loaded, tmp_path / "other", "mean", "none", "")


def test_an_adapter_names_the_commit_of_its_base(llama, tmp_path):
    adapted = adapter.add_lora(llama, profile.Lora(rank=2), 0)
    for model, revision in (("hub:owner/name", "a" * 40), ("embedded:smollm2-135m", None)):
        adapted.source |= {"model": model, "revision": "a" * 40}
        said = json.loads(
            (export.export_adapter(adapted, tmp_path / "m") / "adapter_config.json").read_text()
        )
        assert said["revision"] == revision
