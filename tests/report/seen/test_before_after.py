"""A model as the run reads it: texts under one instruction, and each under its own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthembed import profile
from synthembed.report.seen import before_after


@pytest.mark.parametrize("static", [False, True])
def test_texts_with_an_instruction_each_have_the_vectors_that_they_have_alone(llama, static):
    encode = before_after.encoder_of(profile.load("smoke"), llama, static)
    texts, told = ["ab", "a longer text", "ab", "cd"], ["find", "", "", "find"]
    together = encode(texts, told)
    alone = np.concatenate([encode([text], one) for text, one in zip(texts, told, strict=True)])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert static or abs(together[0] - together[2]).max() > 1e-3, "the instruction says nothing"


class Placed(SimpleNamespace):
    """A stand-in for a backbone: where it is, and nothing else."""

    def __init__(self, on: str):
        super().__init__(device=torch.device(on))
        self.model = SimpleNamespace(to=lambda on: setattr(self, "device", torch.device(on)))


@pytest.mark.parametrize("on", ["cuda", "cpu"])
def test_one_of_several_models_is_on_the_gpu_at_a_time_and_each_is_loaded_once(monkeypatch, on):
    made, moved = {}, []
    there = lambda: [name for name, model in made.items() if model.device.type == "cuda"]  # noqa: E731

    def load(name):
        assert not there(), "two while one is loaded"
        assert name not in made, "loaded twice"
        made[name] = Placed(on)
        return made[name]

    monkeypatch.setattr(before_after, "encoder_of", lambda profile, model: lambda texts, told: there())
    monkeypatch.setattr(before_after.hardware, "release", lambda: moved.append(there()))
    loaders = before_after.in_turn(None, {name: lambda name=name: load(name) for name in ("base", "trained")})
    base, trained = loaders["base"](), loaders["trained"]()
    for name, encode in (("base", base), ("trained", trained), ("trained", trained), ("base", base)):
        assert encode([], "") == ([name] if on == "cuda" else [])
    assert moved == ([[]] * 4 if on == "cuda" else []), "what a model leaves is given back when it has left"
