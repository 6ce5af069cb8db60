"""A model as the run reads it: texts under one instruction, and each under its own."""

import numpy as np
import pytest
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
