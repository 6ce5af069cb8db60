"""Passkeys: the data in its forms, the variants against plain computations, the shared filler."""

import json

import numpy as np
import pytest
import torch
from synthembed.evaluation import passkey
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import LongContext, RopeVariant
from tiny_models import byte_tokenizer, tiny_model
from transformers import AutoModel, Gemma3TextConfig

SHARED = LongContext(lengths=[160], queries=3, candidates=5, candidates_per="length")
OWN = LongContext(lengths=[160], queries=3, candidates=5)


@pytest.mark.parametrize("plan", [SHARED, OWN], ids=["length", "query"])
def test_the_right_document_holds_the_key_and_no_other_candidate_does(plan, llama):
    data = passkey.make(plan, 160, llama, 1)
    assert data == passkey.make(plan, 160, llama, 1) != passkey.make(plan, 160, llama, 2)
    assert len(data.documents) == (5 if plan is SHARED else 15) and len(set(data.answers)) == 3
    for query, candidates, answer in zip(data.queries, data.candidates, data.answers, strict=True):
        statement = f"{query.removeprefix('What is the pass key of ').removesuffix('?')}'s pass key is "
        assert len(candidates) == 5
        assert [i for i in candidates if statement in data.documents[i]] == [answer]


def test_lengths_are_tokens_or_words(llama):
    for unit, size in (("tokens", lambda t: len(Encoder(llama, max_length=9999).rows([t])[0])), ("words", lambda t: len(t.split()) / 0.75)):  # fmt: skip
        data = passkey.make(SHARED.model_copy(update={"unit": unit}), 400, llama, 1)
        assert all(abs(size(text) - 400) < 40 for text in data.documents), unit


def test_the_authors_form_is_read_and_what_lacks_is_named(tmp_path):
    lines = [
        {"query": f"q{i}", "candidates": [f"d{i}{j}" for j in range(3)], "label": i, "context_length": 256}
        for i in range(2)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (data,) = passkey.read(str(source), [256])
    assert [data.documents[i] for i in data.answers] == ["d00", "d11"]
    assert [data.documents[i] for i in data.candidates[1]] == ["d10", "d11", "d12"]
    with pytest.raises(ValueError, match=r"nothing of context_length \[512\]; it has \[256\]"):
        passkey.read(str(source), [256, 512])
    source.write_text(json.dumps({"query": "q"}) + "\n")
    with pytest.raises(ValueError, match="no field candidates, context_length, label"):
        passkey.read(str(source), [256])


def test_longembed_form(llama, tmp_path):
    data = passkey.make(SHARED, 160, llama, 1)
    passkey.write_longembed([data], tmp_path)
    queries, corpus, qrels = (
        [json.loads(line) for line in (tmp_path / f"{n}.jsonl").read_text().splitlines()]
        for n in ("queries", "corpus", "qrels")
    )
    text = {d["doc_id"]: d["text"] for d in corpus}
    assert [q["text"] for q in queries] == data.queries and len(corpus) == 5
    assert [text[r["doc_id"]] for r in qrels] == [data.documents[i] for i in data.answers]
    assert {d["context_length"] for d in corpus} == {160}
    assert passkey.read(str(tmp_path), [160]) == [data]
    plan = SHARED.model_copy(update={"data": str(tmp_path)})
    (row,) = passkey.run(plan, llama, "last", passkey.sets_of(plan, llama, 1))
    assert row["benchmark"] == "LongEmbed passkey" and row["candidates"] == 5
    with pytest.raises(ValueError, match=r"nothing of context_length \[320\]; it has \[160\]"):
        passkey.read(str(tmp_path), [160, 320])
    (tmp_path / "qrels.jsonl").write_text(json.dumps({"qid": "160-query0", "doc_id": "another"}) + "\n")
    with pytest.raises(ValueError, match=r"no document of length 160 answers \['160-query0'"):
        passkey.read(str(tmp_path), [160])
    with pytest.raises(ValueError, match="candidates_per: length"):
        passkey.write_longembed([passkey.make(OWN, 160, llama, 1)], tmp_path)


def test_a_backbone_is_untouched_by_variants(llama):
    texts = passkey.make(SHARED, 160, llama, 1).documents
    before = Encoder(llama).encode(texts)
    for variant in (RopeVariant(id="b", rope_theta=1e6), RopeVariant(id="w", sliding_window=8)):
        changed = passkey.with_variant(llama, variant)
        assert not np.allclose(Encoder(changed).encode(texts), before, atol=1e-4)
        assert np.array_equal(Encoder(llama).encode(texts), before)


def test_a_window_on_mistral_is_the_models_own():
    narrow = Backbone(tiny_model("mistral", window=8), TokenContract.of(byte_tokenizer("mistral")), {})
    wide = passkey.with_variant(narrow, RopeVariant(id="w", sliding_window=64))
    expected = Backbone(tiny_model("mistral", window=64), narrow.contract, {})
    texts = ["the cat sat on the mat and looked at the moon"]
    assert np.allclose(Encoder(wide).encode(texts), Encoder(expected).encode(texts), atol=1e-6)
    assert not np.allclose(Encoder(narrow).encode(texts), Encoder(wide).encode(texts), atol=1e-4)


def layered(window: int = 16, far: float = 1e6) -> Backbone:
    """Two layers as in Gemma 3: one with a window and a base of its own, one that sees everything."""
    config = Gemma3TextConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=window, pad_token_id=0,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "default", "rope_theta": far},
        },
    )  # fmt: skip
    torch.manual_seed(0)
    return Backbone(AutoModel.from_config(config).eval(), TokenContract.of(byte_tokenizer("llama")), {})


def test_layers_with_bases_of_their_own_get_the_new_one_where_they_see_everything():
    own, texts = layered(), ["the cat sat on the mat and looked at the moon for the whole of the night"]
    found = Encoder(passkey.with_variant(own, RopeVariant(id="b", rope_theta=50.0))).encode(texts)
    assert np.allclose(found, Encoder(layered(far=50.0)).encode(texts), atol=1e-6)
    assert not np.allclose(found, Encoder(own).encode(texts), atol=1e-4)
    kinds = passkey.with_variant(own, RopeVariant(id="w", sliding_window=24)).model.layers
    assert [(layer.self_attn.sliding_window, layer.self_attn.laid_window) for layer in kinds] == [
        (16, 24), (None, 24)
    ]  # fmt: skip


def test_a_window_laid_on_a_decoder_is_a_plain_mask(backbone):
    """Against the model's own attention under a mask that shows the last 8 tokens alone."""
    rows = Encoder(backbone).rows(["the cat sat on the mat", "a longer text about the moon and the sea"])
    laid = passkey.with_variant(backbone, RopeVariant(id="w", sliding_window=8))
    found = Encoder(laid).encode_rows(rows)
    for row, vector in zip(rows, found, strict=True):
        at = torch.arange(len(row))
        seen = (at[None] <= at[:, None]) & (at[None] > at[:, None] - 8)
        mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[None, None]
        plain = tiny_model(backbone.config.model_type.replace("qwen2", "qwen"))
        with torch.inference_mode():
            expected = plain(input_ids=torch.tensor([row]), attention_mask=mask).last_hidden_state[0, -1]
        assert torch.allclose(vector, expected, atol=1e-5)


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_the_shared_filler_changes_no_vector(backbone, window, pooling):
    base = passkey.with_variant(backbone, RopeVariant(id="w", sliding_window=window)) if window else backbone
    texts = [*passkey.make(SHARED, 300, backbone, 1).documents, "a text that shares nothing"]
    encoder = Encoder(base, pooling, max_length=700)
    plain = Encoder(base, pooling, max_length=700, prefix_cache=False)
    found, expected = encoder.encode_branches(encoder.rows(texts)), plain.encode_rows(plain.rows(texts))
    assert torch.cosine_similarity(found, expected).min() >= 0.99999
    assert torch.allclose(found, expected, atol=1e-4) and encoder.prefixes


def test_accuracy_is_what_one_text_at_a_time_gives_and_a_tie_is_a_miss(llama):
    encoder = Encoder(llama, max_length=999)
    for plan in (SHARED, OWN):
        data = passkey.make(plan, 160, llama, 1)
        queries = encoder.encode(data.queries, "find")
        right = 0
        for query, candidates, answer in zip(queries, data.candidates, data.answers, strict=True):
            alike = {i: float(encoder.encode([data.documents[i]])[0] @ query) for i in candidates}
            right += max(alike, key=alike.get) == answer
        assert passkey.accuracy(encoder, data, "find") == pytest.approx(100 * right / 3)
    easy = passkey.Passkeys(8, ["the cat", "a moon"], ["the cat", "a moon"], [range(2)] * 2, [0, 1])
    assert passkey.accuracy(encoder, easy, "") == 100
    same = passkey.Passkeys(8, ["the cat"], ["the cat", "the cat"], [range(2)], [0])
    assert passkey.accuracy(encoder, same, "") == 0


def test_rows_carry_intervals_and_what_they_fill(llama):
    plan = SHARED.model_copy(
        update={"variants": [RopeVariant(id="v", fills={"figure5": "s"}, rope_theta=1e5)]}
    )
    (row,) = passkey.run(plan, llama, "last", passkey.sets_of(plan, llama, 1))
    assert row["fills"] == {"figure5": "s"} and (row["queries"], row["candidates"]) == (3, 5)
    assert row["candidates_per"] == "length"
    assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 100 and row["low"] < row["high"]
