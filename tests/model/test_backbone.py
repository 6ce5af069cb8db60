"""A base that is loaded again: the same weights, whatever was done to the one before."""

import json
import os

import pytest
import torch
from synthembed import profile
from synthembed.model import adapter, backbone
from synthembed.model.encoder import Encoder
from synthembed.model.export import tokenizer_with_contract
from tiny_models import tiny_model


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
