"""A base that is loaded again: the same weights, whatever was done to the one before."""

import json
import os

import pytest
import torch
from sentence_transformers import SentenceTransformer
from synthembed import profile
from synthembed.model import adapter, backbone, export
from synthembed.model.encoder import Encoder
from synthembed.model.export import tokenizer_with_contract
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model


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
