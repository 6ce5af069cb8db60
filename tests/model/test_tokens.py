"""The token contract: golden ids for three tokenizer styles, and what breaks it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.ground.weights.embedded import BackboneError
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model

GOLDEN = {
    "llama": [1, 259, 3, 2],
    "mistral": [1, 259, 3, 2],
    "qwen": [259, 3, 2],
}


def test_golden_ids(style):
    contract = TokenContract.of(byte_tokenizer(style))
    assert contract.ids(["ab!"], 512) == [GOLDEN[style]]


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen"])
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60), longest=st.integers(3, 40))
def test_every_text_begins_with_bos_and_ends_with_eos(name, text, longest):
    contract = TokenContract.of(byte_tokenizer(name))
    (ids,) = contract.ids([text], longest)
    contract.check([ids])
    assert len(ids) <= longest and ids[-1] == contract.eos
    assert (ids[0] == contract.bos) if contract.bos is not None else True


def test_the_tokenizers_own_template_is_never_trusted():
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer("llama")
    before = TokenContract.of(tokenizer).ids(["the"], 16)
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    assert TokenContract.of(tokenizer).ids(["the"], 16) == before  # eos is still there, bos not doubled


def test_broken_rows_are_refused():
    contract = TokenContract.of(byte_tokenizer("llama"))
    for row in ([5, 2], [1, 5]):
        with pytest.raises(BackboneError, match="token contract broken at row 0"):
            contract.check([row])
    with pytest.raises(ValueError, match="max_length 2 leaves no room"):
        contract.ids(["x"], 2)


def test_a_tokenizer_without_eos_is_refused():
    tokenizer = byte_tokenizer("llama")
    tokenizer.eos_token = None
    with pytest.raises(BackboneError, match="no eos token"):
        Backbone(tiny_model("llama"), TokenContract.of(tokenizer), {})
