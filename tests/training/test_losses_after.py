"""Losses of later papers: their mathematics, and that what only looks on changes nothing."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed import profile
from synthembed.training import train
from synthembed.training.batches import Batch
from synthembed.training.contrastive import info_nce
from synthembed.training.later import losses_after
from tiny_training import CORPUS, example, fresh, tiny


def batch(queries: int, documents: int, excluded=None) -> SimpleNamespace:
    """As batches.Batch, of ``queries + documents`` rows, query n's positive being document n."""
    return SimpleNamespace(
        query_rows=torch.arange(queries), document_rows=torch.arange(queries, queries + documents),
        positives=torch.arange(queries), excluded=excluded, texts=(list("abc"), list("defgh")),
    )  # fmt: skip


def recipe(**changes) -> profile.Train:
    return profile.Train(temperature=0.1, recipes=changes)


@given(st.integers(0, 10**6), st.floats(0.1, 3))
@settings(max_examples=20, deadline=None)
def test_focal_loss_is_the_weighted_sum_of_its_definition(seed, gamma):
    torch.manual_seed(seed)
    logits, n = torch.randn(5, 8, dtype=torch.float64) * 4, torch.arange(5)
    p = logits.softmax(1)[n, n]
    expected = sum(-((1 - x) ** gamma) * x.log() for x in p) / 5
    torch.testing.assert_close(losses_after.focal_loss(logits, n, gamma), expected)


def test_gamma_0_is_info_nce_with_its_gradient_and_a_larger_gamma_weighs_what_is_right_less():
    torch.manual_seed(0)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[0, 4] = True
    some, vectors = batch(3, 5, mask.to_sparse()), torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    logits = losses_after.masked_logits(vectors, some, 0.1)
    ours = losses_after.focal_loss(logits, some.positives, 0.0)
    (gradient,) = torch.autograd.grad(ours, vectors)
    theirs, _ = info_nce(vectors, some.query_rows, some.document_rows, some.positives, 0.1, some.excluded)
    (expected,) = torch.autograd.grad(theirs, vectors)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)
    easy, hard = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    kept = [losses_after.focal_loss(x, torch.tensor([0]), 2.0) / losses_after.focal_loss(x, torch.tensor([0]), 0.0)
            for x in (easy, hard)]  # fmt: skip
    assert kept[0] < 0.001 and kept[1] > 0.95


def test_matryoshka_is_the_mean_over_beginnings_and_the_rest_has_the_whole_vectors_gradient_alone():
    torch.manual_seed(0)
    some, vectors = batch(3, 5), torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    found, _ = losses_after.loss_of(vectors, some, recipe(matryoshka=[2, 4]))
    rows = (some.query_rows, some.document_rows, some.positives)
    expected = torch.stack([info_nce(vectors[:, :d], *rows, 0.1)[0] for d in (2, 4, 6)]).mean()
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, vectors)
    (whole,) = torch.autograd.grad(info_nce(vectors, *rows, 0.1)[0], vectors)
    torch.testing.assert_close(gradient[:, 4:], whole[:, 4:] / 3)
    assert not torch.allclose(gradient[:, :2], whole[:, :2] / 3)
    with pytest.raises(ValueError, match="matryoshka: 8 dimensions, but vectors have 6"):
        losses_after.loss_of(vectors, some, recipe(matryoshka=[8]))


def test_distillation_is_torchs_kl_without_masked_documents_and_0_where_both_agree():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    expected = torch.nn.functional.kl_div(
        student.log_softmax(1), teacher.log_softmax(1), reduction="batchmean", log_target=True
    )
    torch.testing.assert_close(losses_after.distillation(student, teacher), expected)
    assert losses_after.distillation(student, student + 3).abs() < 1e-12
    masked = torch.cat([student, torch.full((4, 1), float("-inf"))], 1)
    more = torch.cat([teacher, torch.full((4, 1), 9.0)], 1)
    torch.testing.assert_close(losses_after.distillation(masked, more), expected)


def test_distillation_draws_the_student_to_the_teacher(monkeypatch):
    torch.manual_seed(0)
    some, wanted = batch(3, 5), torch.rand(3, 5)
    monkeypatch.setattr(losses_after, "teacher_cosines", lambda batch, chosen: wanted)
    chosen = recipe(distil={"weight": 50.0, "temperature": 0.1})
    vectors = torch.randn(8, 6, requires_grad=True)
    before = losses_after.loss_of(vectors, some, chosen)[1]["divergence"]
    optimiser = torch.optim.Adam([vectors], 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        losses_after.loss_of(vectors, some, chosen)[0].backward()
        optimiser.step()
    assert losses_after.loss_of(vectors, some, chosen)[1]["divergence"] < 0.2 * before


def test_gradient_caching_serves_every_recipe(llama, tmp_path):
    """Chunks that are run twice give the gradients of chunks whose graphs are kept."""
    gradients = []
    for kept in (0, 10**6):
        chosen = tiny(**{"train.recipes": {"focal": 0.5, "matryoshka": [8]}, "lora.dropout": 0.0,
                         "train.graph_tokens": kept})  # fmt: skip
        model, trainable = train.prepare(chosen, fresh(llama))
        made = Batch(CORPUS[:8], model, chosen.train, 1)
        train.backward(model, made, chosen.train, train.vectors_of(chosen))
        gradients.append({n: p.grad.clone() for n, p in trainable.items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4)


def test_an_example_s_further_negatives_are_documents_of_its_batch(llama):
    chosen = tiny().train
    one = [replace(example(n), further=(f"also wrong {n}", f"wrong too {n}")) for n in range(4)]
    plain, more = (Batch(e, llama, chosen, 1) for e in ([example(n) for n in range(4)], one))
    assert len(more.document_rows) == len(plain.document_rows) + 8
    assert "wrong too 3" in more.texts[1] and "wrong too 3" not in plain.texts[1]


def test_who_watches_a_training_does_not_change_it(llama, tmp_path):
    chosen, seen = tiny(**{"train.max_steps": 3}), []

    def watch(step, model, folder):
        model.model.eval()
        torch.rand(7)  # whoever scores draws
        seen.append(step)
        model.model.train()

    ends = [
        train.train(chosen, fresh(llama), CORPUS, tmp_path / str(n), watch=w)
        for n, w in enumerate((None, watch))
    ]
    tensors = [{n: p for n, p in end.model.named_parameters() if "lora_" in n} for end in ends]
    assert seen == [1, 2, 3]
    assert all(torch.equal(p, tensors[1][n]) for n, p in tensors[0].items())


def test_workers_that_score_no_learning_curve_are_said(llama, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "in_workers", lambda *job: None)
    chosen = tiny(**{"train.max_steps": 1, "train.workers": 2})
    train.train(chosen, fresh(llama), CORPUS, tmp_path, watch=lambda *step: None)
    assert "train.workers: no learning curve is scored" in capsys.readouterr().out
