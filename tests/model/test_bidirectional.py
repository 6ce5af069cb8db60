"""Encoder-style bases (Table 7): bidirectional attention, [cls] text [sep], training and export."""

import json

import numpy as np
import pytest
import torch
from synthembed import profile
from synthembed.ground.weights import embedded
from synthembed.labelled.mixture import Mixture
from synthembed.model import adapter, export, packed_rows
from synthembed.model import backbone as backbones
from synthembed.model.encoder import Encoder, row_vectors
from synthembed.training import seed_runs, train
from tiny_models import byte_tokenizer
from tiny_training import CORPUS, tiny
from transformers import AutoModel, BertConfig, XLMRobertaConfig

TEXTS = ["the tea", "a longer text about the tea and the abbey, with more words in it", "x", "they: that"]


def save(folder, style: str):
    """A base with random weights, saved as a hub model is: BERT's, whose tokenizer has [CLS] and [SEP]
    alone, or XLM-R's, whose positions begin after the pad token's id."""
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4}  # fmt: skip
    torch.manual_seed(0)
    tokenizer = byte_tokenizer("llama")
    if style == "bert":
        tokenizer.add_special_tokens({"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<unk>"})
        tokenizer.bos_token = tokenizer.eos_token = None
        config = BertConfig(**sizes, max_position_embeddings=80, pad_token_id=0)
    else:
        tokenizer.pad_token = "<unk>"
        config = XLMRobertaConfig(**sizes, max_position_embeddings=81, pad_token_id=0)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=["bert", "xlm-roberta"])
def folder(request, tmp_path):
    return save(tmp_path / "base", request.param)


@pytest.fixture
def base(folder):
    return backbones.load(profile.Backbone(model=str(folder)))


def settings(folder, **changes) -> profile.Profile:
    return tiny(
        **{"backbone.model": str(folder), "backbone.pooling": "mean", "train.method": "full"} | changes
    )


def test_rows_are_cls_text_sep(base):
    rows = base.contract.ids(["the tea"], 64)
    base.contract.check(rows)
    tokens = base.contract.tokenizer.convert_ids_to_tokens(rows[0])
    assert (tokens[0], tokens[-1]) == ("<s>", "</s>") and len(tokens) > 3


def test_every_token_sees_every_other(base):
    """Run as a decoder, without padding, the first token would not see the second."""
    assert not packed_rows.supports(base.model) and base.model.pooler is None
    first, other = (base.contract.ids([t], 64)[0] for t in ("a b", "a c"))
    states = [base.model(torch.tensor([ids])).last_hidden_state[0, 0] for ids in (first, other)]
    assert not torch.allclose(*states, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_vector_does_not_depend_on_its_batch(base, pooling):
    """Against the plain model on one text alone, without padding and with positions of its own."""
    together = Encoder(base, pooling, 80, batch_tokens=4096).encode(TEXTS, "find the tea", normalize=False)
    small = Encoder(base, pooling, 80, batch_tokens=40).encode(TEXTS, "find the tea", normalize=False)
    for n, ids in enumerate(Encoder(base, pooling, 80).rows(TEXTS, "find the tea")):
        states = base.model(torch.tensor([ids])).last_hidden_state[0]
        alone = (states.mean(0) if pooling == "mean" else states[-1]).detach().numpy()
        np.testing.assert_allclose(together[n], alone, atol=2e-6)
        np.testing.assert_allclose(small[n], alone, atol=2e-6)


def test_more_tokens_than_learned_positions_is_an_error(base, folder, tmp_path):
    with pytest.raises(embedded.BackboneError, match=r"max_length = 81, but .* has positions for 80 tokens"):
        Encoder(base, max_length=81)
    with pytest.raises(embedded.BackboneError, match=r"lower train\.max_length"):
        train.train(settings(folder, **{"train.max_length": 100}), base, CORPUS, tmp_path / "run")


def test_training_falls_moves_the_weights_and_ends_where_it_was_resumed(base, folder, tmp_path):
    chosen = settings(folder, **{"train.epochs": 6, "train.learning_rate": 3e-3})
    before = {n: p.clone() for n, p in base.model.named_parameters()}
    trained = train.train(chosen, base, CORPUS, tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    now = dict(trained.model.named_parameters())
    assert all(not torch.equal(now[n], p) for n, p in before.items() if "encoder" in n and p.ndim == 2)
    (tmp_path / "run" / "checkpoints" / f"step-{len(losses):06d}.safetensors").unlink()
    again = train.train(chosen, backbones.load(chosen.backbone), CORPUS, tmp_path / "run")
    assert all(torch.equal(p, now[n]) for n, p in again.model.named_parameters())


def test_chunks_change_nothing_in_the_gradients(base, folder):
    """Padding differs from chunk to chunk; dropout is off, as its draws differ as well."""
    from synthembed.training.batches import Batch

    gradients = []
    for chunk in (2048, 70):
        chosen = settings(folder, **{"train.chunk_tokens": chunk})
        model, trainable = train.prepare(chosen, base)
        model.model.eval().zero_grad()
        train.backward(model, Batch(CORPUS[:8], model, chosen.train), chosen.train, train.vectors_of(chosen))
        gradients.append({n: p.grad.clone() for n, p in trainable.items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3)


def test_pretraining_comes_before_full_fine_tuning(base, folder, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"title": f"question {n} of many", "body": f"answer {n} " * 5} for n in range(8)]
    pairs.write_text("\n".join(map(json.dumps, lines)))
    first = {"train.max_steps": 2, "train.batch_size": 4}
    chosen = settings(folder, pretrain={"source": str(pairs), "set": first}, **{"train.max_steps": 1})
    train.train(chosen, base, CORPUS, tmp_path / "run")
    logs = [tmp_path / "run" / "log.jsonl", tmp_path / "run" / "pretraining" / "log.jsonl"]
    assert [len(log.read_text().splitlines()) for log in logs] == [1, 2]


def test_lora_fits_where_its_targets_are_named(base, folder, tmp_path):
    chosen = settings(
        folder, **{"train.method": "lora", "lora.targets": ["query", "value"], "train.max_steps": 2}
    )
    merged = adapter.merge_lora(train.train(chosen, base, CORPUS, tmp_path))
    assert merged.model.config.model_type == base.config.model_type


def test_layers_are_cut_and_random_weights_are_drawn_from_the_seed(folder):
    cut = profile.Backbone(model=str(folder), layers=1, initialisation="random")
    drawn = [backbones.load(cut, seed).model for seed in (1, 1, 2)]
    assert len(drawn[0].encoder.layer) == 1 == drawn[0].config.num_hidden_layers
    weights = [m.encoder.layer[0].attention.self.query.weight for m in drawn]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_exported_folder_gives_our_vectors(folder, tmp_path):
    from sentence_transformers import SentenceTransformer

    chosen = settings(folder, **{"train.max_steps": 1})
    merged = seed_runs.train_all(
        seed_runs.plan(chosen, CORPUS, tmp_path), Mixture(CORPUS, {"examples": len(CORPUS), "sets": {}})
    )
    ours = Encoder(merged, "mean", 80).encode(TEXTS)
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    model.max_seq_length = 80
    assert ((ours * model.encode(TEXTS)).sum(1) > 0.99999).all()
    assert export.POOLING["mean"] in (tmp_path / "model" / "1_Pooling" / "config.json").read_text()


def test_packed_and_padded_rows_agree_for_decoders_and_left_padding(llama):
    """Without position ids from outside, right padding still counts from each row's first token."""
    rows = llama.contract.ids(TEXTS, 64)
    with torch.inference_mode():
        expected = row_vectors(llama, rows, "mean")
        for side in ("right", "left"):
            torch.testing.assert_close(
                row_vectors(llama, rows, "mean", padding=side), expected, atol=2e-5, rtol=0
            )
