"""A decoder whose tokens all see each other (LLM2Vec): what it sees, its batches, its training, and no export."""

import numpy as np
import pytest
import torch
from synthembed import profile
from synthembed.ground.weights.embedded import BackboneError
from synthembed.labelled.mixture import Mixture
from synthembed.model import backbone as backbones
from synthembed.model import packed_rows
from synthembed.model.encoder import Encoder
from synthembed.training import seed_runs, train
from tiny_models import tiny_model
from tiny_training import CORPUS, tiny

TEXTS = ["the tea", "a longer text about the tea and the abbey, with more words in it", "x", "they: that"]


@pytest.fixture
def base(tiny_folder):
    return backbones.load(profile.Backbone(model=str(tiny_folder), bidirectional=True))


def test_the_first_token_sees_the_last_and_without_the_setting_it_does_not(base, tiny_folder):
    plain = backbones.load(profile.Backbone(model=str(tiny_folder)))
    rows = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])
    with torch.inference_mode():
        seen = [m.model(input_ids=rows).last_hidden_state[:, 0] for m in (base, plain)]
    assert not torch.allclose(*seen[0], atol=1e-4) and torch.allclose(*seen[1], atol=1e-6)
    assert not packed_rows.supports(base.model) and packed_rows.supports(plain.model)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_vector_does_not_depend_on_its_batch(base, pooling):
    together = Encoder(base, pooling, 80).encode(TEXTS, normalize=False)
    for n, text in enumerate(TEXTS):
        np.testing.assert_allclose(
            Encoder(base, pooling, 80).encode([text], normalize=False)[0], together[n], atol=2e-5
        )


def test_attention_is_that_of_a_full_mask(base, tiny_folder):
    """Against the same decoder under an explicit mask that hides nothing."""
    plain = backbones.load(profile.Backbone(model=str(tiny_folder), attention="eager"))
    ids = torch.tensor([[1, 5, 6, 7, 8, 2]])
    nothing_hidden = torch.zeros(1, 1, 6, 6)
    with torch.inference_mode():
        expected = plain.model(input_ids=ids, attention_mask=nothing_hidden).last_hidden_state
        found = base.model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_it_trains_and_is_not_exported(base, tiny_folder, tmp_path):
    chosen = tiny(**{"backbone.model": str(tiny_folder), "backbone.bidirectional": True,
                     "backbone.pooling": "mean", "train.max_steps": 2})  # fmt: skip
    train.train(chosen, base, CORPUS, tmp_path / "run")
    runs = seed_runs.plan(chosen, CORPUS, tmp_path / "stage")
    with pytest.raises(train.TrainingError, match="looks back only"):
        seed_runs.train_all(runs, Mixture(CORPUS, {}))


def test_a_model_with_masks_of_its_own_is_refused():
    class Stubborn(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = tiny_model("llama")
            self.config, self.device = self.inner.config, torch.device("cpu")

        def forward(self, input_ids, use_cache):
            self.inner.config.is_causal = True  # reads no configuration of ours
            for module in self.inner.modules():
                if hasattr(module, "is_causal"):
                    module.is_causal = True
            return self.inner(input_ids=input_ids, use_cache=False)

    with pytest.raises(BackboneError, match="still does not see the second"):
        backbones.look_both_ways(Stubborn())
