"""The token contract: golden ids for three tokenizer styles, and what breaks it."""

from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.commands.command_line import app
from synthembed.ground.weights.embedded import BackboneError
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenCache, TokenContract
from tiny_models import byte_tokenizer, tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast
from typer.testing import CliRunner

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


def test_texts_in_a_script_that_a_tokenizer_does_not_know_are_told(tmp_path):
    """An English one has one token for all of them."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *ascii_lowercase, *(f"##{c}" for c in ascii_lowercase)]
    made = Tokenizer(models.WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    texts = ["ሰላም ለዓለም", "the bees", "the ቤተ bees", ""]
    contract, cache = TokenContract.of(tokenizer), TokenCache()
    for times in (1, 2):  # the second is from the cache
        cache.ids(contract, texts, 16)
        assert contract.read["unknown"] == times and contract.read["texts"] == 4 * times
    tokenizer.save_pretrained(tmp_path / "m")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    AutoModel.from_config(BertConfig(vocab_size=len(names), **sizes)).save_pretrained(tmp_path / "m")
    (tmp_path / "t.txt").write_text("\n".join(texts[:2]), encoding="utf-8")
    asked = ["encode", str(tmp_path / "t.txt"), str(tmp_path / "t.npy"), "--model", str(tmp_path / "m")]
    assert "warning: 1 distinct texts are in signs" in CliRunner().invoke(app, asked).output
