"""Loss and gradients against plain computation, resuming, and what must stop a run."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed import backbone as backbones
from synthembed import contrastive, profile, train
from synthembed.backbone import Backbone
from synthembed.dropout import CpuDropout
from synthembed.examples import Example
from torch.nn import functional as F


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


def test_info_nce_is_the_formula():
    queries, documents = torch.randn(3, 5).double(), torch.randn(7, 5).double()
    loss, metrics = contrastive.info_nce(queries, documents, torch.tensor([2, 0, 6]), 0.02)
    cosine = F.cosine_similarity(queries[:, None], documents[None], dim=-1)
    phi = (cosine / 0.02).exp()
    expected = -(phi[[0, 1, 2], [2, 0, 6]] / phi.sum(1)).log().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert metrics["positive_similarity"] == pytest.approx(cosine[[0, 1, 2], [2, 0, 6]].mean().item())


def test_masking_takes_out_known_positives_and_nothing_else():
    queries = ["q", "q", "r"]
    positives = ["p1", "p2", "p3"]
    documents = ["p1", "p2", "p3", "n", "r"]
    mask = contrastive.excluded_pairs(queries, positives, documents, [0, 1, 2])
    assert mask.tolist() == [
        [False, True, False, False, False],
        [True, False, False, False, False],
        [False, False, False, False, True],
    ]


def gradients(model: Backbone, settings, examples, dtype=torch.float64):
    trainable = {n: p for n, p in model.model.named_parameters() if p.requires_grad}
    torch.manual_seed(7)
    batch = train.Batch(examples, model, settings)
    loss, _ = train.backward(model, batch, settings, "last")
    found = {n: p.grad.clone() for n, p in trainable.items()}
    for p in trainable.values():
        p.grad = None
    return loss, found


@settings(max_examples=12, deadline=None)
@given(
    chunk=st.integers(8, 400), graphs=st.sampled_from([0, 64, 10**6]), dropout=st.sampled_from([0.0, 0.3]),
    temperature=st.sampled_from([0.02, 1.0]),
)  # fmt: skip
def test_cached_gradients_equal_those_with_all_graphs_kept(chunk, graphs, dropout, temperature):
    """Same chunks and random state, once with every graph kept (plain backward), once replayed."""
    from conftest import byte_tokenizer, tiny_model

    base = Backbone(tiny_model("llama").double(), backbones.TokenContract.of(byte_tokenizer("llama")), {})
    model = backbones.add_lora(base, profile.Lora(rank=4, alpha=8, dropout=dropout), 0)
    for name, p in model.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    model.model.double().train()
    plain = tiny(
        **{"train.chunk_tokens": chunk, "train.graph_tokens": 10**9, "train.temperature": temperature}
    ).train
    cached = plain.model_copy(update={"graph_tokens": graphs})
    (loss, expected), (again, found) = (gradients(model, s, CORPUS[:8]) for s in (plain, cached))
    assert again == pytest.approx(loss, rel=1e-12)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-9 * gradient.norm().clamp_min(1e-12), name


def test_chunking_does_not_change_the_gradient(llama):
    """Without dropout, any chunking gives the gradient of one plain backward over the whole batch."""
    llama.model.double()
    model = backbones.add_lora(llama, profile.Lora(rank=4, alpha=8, dropout=0), 0)
    model.model.double().train()
    for name, p in model.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    loss, expected = gradients(
        model, tiny(**{"train.chunk_tokens": 10**6, "train.graph_tokens": 10**9}).train, CORPUS[:8]
    )
    for chunk in (16, 60, 200):
        again, found = gradients(model, tiny(**{"train.chunk_tokens": chunk}).train, CORPUS[:8])
        assert again == pytest.approx(loss, rel=1e-10)
        assert all((found[n] - g).norm() <= 1e-9 * g.norm() for n, g in expected.items())


def test_only_queries_carry_the_instruction(llama):
    settings = tiny().train
    batch = train.Batch([example(1)], llama, settings)
    tokenizer = llama.contract.tokenizer
    texts = [tokenizer.decode(row[1:-1]) for chunk in batch.chunks for row in chunk]
    assert sorted(t.startswith("Instruct: Find it\nQuery: ") for t in texts) == [False, False, True]


@pytest.mark.parametrize(
    ("style", "family", "expected"),
    [
        ("natural", "sts", "Instruct: Find it\nQuery: query 1"),
        ("none", "sts", "query 1"),
        ("task-type", "long-short", "classify: query 1"),
        ("task-type", "short-short", "query: query 1"),
        ("task-type", "bitext", "query 1"),
    ],
)
def test_query_styles_of_table_5(style, family, expected):
    assert train.query_text(example(1, family=family), style) == expected


def test_schedule_warms_up_and_decays():
    settings = tiny(**{"train.learning_rate": 1.0, "train.warmup_steps": 100}).train
    rates = [train.learning_rate(settings, s, 900) for s in range(900)]
    assert rates[0] == pytest.approx(0.01) and rates[99] == pytest.approx(1.0) == max(rates)
    assert rates[-1] == pytest.approx(1 / 800) and rates[500] == pytest.approx(0.5)


def test_every_example_is_used_once_an_epoch():
    settings = tiny().train
    epoch = [e.id for step in range(3) for e in train.batch_of(CORPUS, settings, 1, step)]
    assert sorted(epoch) == sorted(e.id for e in CORPUS)
    other = [e.id for step in range(3, 6) for e in train.batch_of(CORPUS, settings, 1, step)]
    assert sorted(other) == sorted(epoch) and other != epoch


def test_training_lowers_the_loss_and_moves_the_adapter(llama, tmp_path):
    trained = train.train(tiny(**{"train.epochs": 12}), llama, CORPUS, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 37))
    losses = [line["loss"] for line in log]
    assert sum(losses[-9:]) < 0.9 * sum(losses[:9])
    assert set(log[0]) >= {"loss", "lr", "tokens", "tokens_per_s", "peak_memory_gb", "mfu", "gradient_norm"}
    assert any(p.abs().max() > 0 for n, p in trained.model.named_parameters() if "lora_B" in n)


def test_an_adapter_that_did_not_move_is_an_error(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    with pytest.raises(train.TrainingError, match="every lora_B is still zero"):
        train.train(tiny(**{"train.max_steps": 1}), llama, CORPUS, tmp_path)


def test_a_loss_that_is_not_finite_names_the_batch(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "backward", lambda *a: (math.nan, {}))
    with pytest.raises(
        train.TrainingError, match=r"step 0: the loss is nan; examples of the batch: (e\d+ ?){8}"
    ):
        train.train(tiny(), llama, CORPUS, tmp_path)


RUN = """
import sys, torch
sys.path.insert(0, "tests")
from pathlib import Path
from test_training import CORPUS, tiny
from conftest import byte_tokenizer, tiny_model
from safetensors.torch import save_file
from synthembed import train
from synthembed.backbone import Backbone, TokenContract
torch.set_num_threads(1)
base = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
trained = train.train(tiny(), base, CORPUS, Path(sys.argv[1]))
save_file({n: p.detach() for n, p in trained.model.named_parameters() if p.requires_grad}, sys.argv[1] + "/final.safetensors")
"""


def test_killed_and_resumed_is_bit_identical(tmp_path):
    def start(folder):
        return subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stdout=subprocess.DEVNULL)

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert start(whole).wait(120) == 0
    for kill_after in (3, 7):
        process = start(torn)
        log = torn / "log.jsonl"
        while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < kill_after):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start(torn).wait(120) == 0
    losses = [
        [(x["step"], x["loss"]) for x in map(json.loads, (f / "log.jsonl").read_text().splitlines())]
        for f in (whole, torn)
    ]
    assert losses[0] == losses[1]
    assert (whole / "final.safetensors").read_bytes() == (torn / "final.safetensors").read_bytes()


def test_a_damaged_checkpoint_is_passed_over(llama, tmp_path, capsys):
    train.train(tiny(), llama, CORPUS, tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    from conftest import tiny_model

    again = Backbone(tiny_model("llama"), llama.contract, {})
    train.train(tiny(), again, CORPUS, tmp_path)
    said = capsys.readouterr().out
    assert f"{newest.name} is damaged" in said and "resuming after step 8" in said


def test_checkpoints_of_another_run_are_not_resumed(llama, tmp_path, capsys):
    train.train(tiny(), llama, CORPUS, tmp_path)
    from conftest import tiny_model

    train.train(tiny(seed=5), Backbone(tiny_model("llama"), llama.contract, {}), CORPUS, tmp_path)
    assert "resuming" not in capsys.readouterr().out


def test_fast_dropout_keeps_the_expectation_and_its_gradient():
    torch.manual_seed(0)
    layer, x = CpuDropout(0.1), torch.ones(2000, 501, requires_grad=True)
    y = layer(x)
    dropped = (y == 0).double().mean().item()
    assert dropped == pytest.approx(0.1, abs=0.001) and y.double().mean().item() == pytest.approx(
        1, abs=0.001
    )
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert layer.eval()(x) is x
    torch.manual_seed(0)
    assert torch.equal(CpuDropout(0.1)(x), y)
