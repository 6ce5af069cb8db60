"""Averages of the weights of several trainings from one base (Wortsman et al., "Model soups", 2022).

EmbeddingGemma, KaLM-Embedding and Qwen3-Embedding say that they average checkpoints, and give no numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from synthembed.model.backbone import Backbone
from synthembed.model.cpu import bfloat16_linear

Weights = Mapping[str, torch.Tensor]


def weights_of(model: Backbone) -> dict[str, torch.Tensor]:
    """Name → a copy on the CPU of each weight of a model whose adapter is merged; of the embeddings none, which
    LoRA leaves as they are."""
    table = model.model.get_input_embeddings().weight
    return {n: p.detach().to("cpu", copy=True) for n, p in model.model.named_parameters() if p is not table}


def average(several: Sequence[Weights]) -> dict[str, torch.Tensor]:
    """The mean of each weight. Raises ValueError for fewer than two models, or models of different weights."""
    if len(several) < 2:
        raise ValueError(f"a soup of {len(several)} trainings is no average: give the profile two seeds more")
    names = several[0].keys()
    if any(weights.keys() != names for weights in several):
        raise ValueError("weights of different models cannot be averaged")
    return {
        name: torch.stack([w[name].float() for w in several]).mean(0).to(several[0][name]) for name in names
    }


@torch.no_grad()
def put_into(model: Backbone, weights: Weights) -> None:
    """Set a model's weights, in place."""
    parameters = dict(model.model.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value)
    bfloat16_linear.round_again(model.model)
