"""A small corpus, a profile that trains on it in moments, and models to train."""

import torch
from synthembed import profile
from synthembed.corpus.example import Example
from synthembed.model import adapter
from synthembed.model.backbone import Backbone
from tiny_models import tiny_model


def example(n: int, **changes) -> Example:
    values = {
        "id": f"e{n}", "family": "short-long", "instruction": "Find it", "language": "en", "target_language": "",
        "query": f"query {n}", "positive": f"the document number {n} is here", "negative": f"not {n} at all " * (n % 4 + 1),
    }  # fmt: skip
    return Example(**values | changes)


CORPUS = [example(n, negative=None) if n % 5 == 0 else example(n) for n in range(24)]


def tiny(**overrides) -> profile.Profile:
    changes = {"train.batch_size": 8, "train.max_length": 64, "train.chunk_tokens": 96, "train.epochs": 4,
               "train.learning_rate": 1e-2, "train.checkpoint_every": 2, "train.gradient_checkpointing": False}  # fmt: skip
    return profile.Profile(name="tiny").with_overrides(changes | overrides)


def with_adapter(base: Backbone, dropout: float) -> Backbone:
    """In float64, with an adapter that is not the identity."""
    model = adapter.add_lora(base, profile.Lora(rank=4, alpha=8, dropout=dropout), 0)
    torch.manual_seed(1)
    for name, p in model.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    model.model.double().train()
    return model


def assert_equal(found: dict, expected: dict, most: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= most * gradient.norm().clamp_min(1e-12), name


def fresh(llama: Backbone) -> Backbone:
    return Backbone(tiny_model("llama"), llama.contract, {})
