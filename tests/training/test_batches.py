"""Which examples are in which batch, and what a run leaves out: counted and said."""

import json
import threading
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthembed.corpus.example import Example
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from synthembed.profile.settings import Train
from synthembed.training import batches, train
from tiny_models import byte_tokenizer, tiny_model
from tiny_training import CORPUS, fresh, tiny

FAMILIES = ("sts", "bitext", "short-long")


def corpus_of(sizes: dict[str, int]) -> list[Example]:
    """Examples of tasks such as "sts" (synthetic) and "sts quora" (a labelled set)."""
    made = []
    for task, count in sizes.items():
        family, _, source = task.partition(" ")
        name = f"{source}/" if source else ""
        made += [
            Example(f"{name}{family}{n}", family, "i", "en", "", f"{task} q{n}", f"{task} p{n}")
            for n in range(count)
        ]
    return made


def drawn(chosen: Train, corpus: list[Example]) -> list[list[Example]]:
    batch_of = batches.schedule(chosen, corpus, 1)
    return [batch_of(step) for step in range(batches.steps_of(chosen, corpus))]


def test_same_task_batches_hold_one_task_each():
    corpus = corpus_of({"sts": 20, "bitext": 10, "short-long nq": 9})
    chosen = Train(same_task_batches=True, batch_size=4, epochs=1)
    found = drawn(chosen, corpus)
    assert len(found) == 20 // 4 + 10 // 4 + 9 // 4
    assert all(len({batches.task_of(e) for e in batch}) == 1 and len(batch) == 4 for batch in found)
    assert batches.left_out(chosen, corpus, 1) == {"bitext": 2, "short-long nq": 1}


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ({"sts": 40, "bitext": 15, "sts quora": 9}, {"sts": 49, "bitext": 15}),  # to the family; a smaller batch
        ({"sts": 9, "sts quora": 9, "sts nli": 20}, {"sts": 20, "sts ": 18}),  # the small fill a batch together
        ({"sts": 40, "bitext": 2}, {"sts": 40, "bitext": 2}),
    ],
)  # fmt: skip
def test_small_tasks_are_trained_too(sizes, groups):
    corpus = corpus_of(sizes)
    chosen = Train(same_task_batches=True, batch_size=16, epochs=8)
    assert sorted(map(len, batches.groups_of(chosen, corpus))) == sorted(groups.values())
    found = drawn(chosen, corpus)
    assert all(len({e.family for e in batch}) == 1 for batch in found)
    assert {e.id for batch in found for e in batch} == {e.id for e in corpus}
    assert batches.left_out(chosen, corpus, 1) == {}


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([f"{f}{s}" for f in FAMILIES for s in ("", " a", " b")]),
        st.integers(1, 12),
        min_size=1,
    ),
    st.integers(2, 8),
    st.integers(1, 3),
    st.booleans(),
)
def test_every_example_is_in_a_batch_or_counted(sizes, size, epochs, same_task):
    corpus = corpus_of(sizes)
    chosen = Train(same_task_batches=same_task, batch_size=size, epochs=epochs)
    try:
        found = drawn(chosen, corpus)
    except batches.TrainingError:
        assert same_task and max(Counter(e.family for e in corpus).values()) == 1
        return
    seen = {e.id for batch in found for e in batch}
    missing = Counter(batches.task_of(e).strip() for e in corpus if e.id not in seen)
    assert batches.left_out(chosen, corpus, 1) == missing
    if same_task and epochs == 3:
        assert all(len(batch) > 1 for batch in found)


# --- texts that are cut ----------------------------------------------------------------------------


@pytest.fixture
def contract() -> TokenContract:
    return TokenContract.of(byte_tokenizer("llama"))


def test_cut_texts_are_counted_by_kind_and_said(contract):
    corpus = [
        Example(str(n), "sts", "i", "en", "", "q" * (500 if n < 3 else 5), "p", "n" * (500 if n < 2 else 5))
        for n in range(100)
    ]
    chosen = Train(batch_size=10, epochs=1, max_length=64)
    found = batches.losses(chosen, corpus, contract, 1)
    assert found["queries"] == {"texts": 100, "cut": 3, "at": 64}
    assert found["documents"] == {"texts": 200, "cut": 2, "at": 64}
    first, second = batches.said(found).splitlines()
    assert first == "warning: 3 of 100 queries are cut at 64 tokens: raise train.max_length"
    assert second == "2 of 200 documents are cut at 64 tokens"


def test_documents_may_be_cut_earlier_than_queries(contract):
    """Also a text that is both: the one row is whole, the other is cut."""
    corpus = [
        Example(str(n), "sts", "", "en", "", f"{n} {'word ' * 30}", f"{n} {'word ' * 30}") for n in range(4)
    ]
    model = Backbone(tiny_model("llama"), contract, {})
    chosen = Train(batch_size=4, max_length=512, document_max_length=24, mask_known_positives=False)
    found = batches.losses(chosen, corpus, contract, 1)
    assert (found["queries"]["cut"], found["documents"]) == (0, {"texts": 4, "cut": 4, "at": 24})
    assert "4 of 4 documents are cut at 24 tokens: raise train.document_max_length" in batches.said(found)
    batch = batches.Batch(corpus, model, chosen)
    rows = [row for chunk in batch.chunks for row in chunk]
    assert [rows[n] for n in batch.query_rows] == contract.ids([e.query for e in corpus], 512)
    assert [rows[n] for n in batch.document_rows] == contract.ids([e.positive for e in corpus], 24)


def test_a_text_that_fits_exactly_is_not_cut(contract):
    length = len(contract.ids(["word"], 512)[0])
    contract.read.clear()
    contract.ids(["word"], length)
    assert contract.read["cut"] == 0
    contract.ids(["word"], length - 1)
    assert contract.read["cut"] == 1


def test_examples_in_no_batch_are_said_and_a_chosen_end_is_no_warning(contract):
    corpus = corpus_of({"sts": 21})
    told = batches.said(batches.losses(Train(batch_size=10, epochs=1), corpus, contract, 1)).splitlines()[-1]
    assert told.startswith("warning: 1 of 21 examples are in no batch of 1 epochs (sts 1)")
    told = batches.said(
        batches.losses(Train(batch_size=10, epochs=1, max_steps=1), corpus, contract, 1)
    ).splitlines()[-1]
    assert told.startswith("11 of 21 examples are in no batch of 0.5 epochs")


def test_an_instruction_as_long_as_the_query_is_refused(contract):
    corpus = [Example("long", "sts", "find " * 40, "en", "", "q", "p"), *corpus_of({"sts": 9})]
    with pytest.raises(
        batches.TrainingError, match=r"example long: .* as long as train.max_length = 64 tokens"
    ):
        batches.losses(Train(batch_size=2, max_length=64), corpus, contract, 1)
    # Without instructions nothing stands before a query.
    batches.losses(Train(batch_size=2, max_length=64, instruction="none"), corpus, contract, 1)


def test_the_next_batch_is_made_while_one_is_used():
    begun = [threading.Event() for _ in range(4)]

    def make(step: int) -> int:
        begun[step].set()
        return 10 * step

    alone = batches.made(make, range(4), ahead=False)
    assert next(alone) == 0 and not begun[1].is_set()
    found = batches.made(make, range(4), ahead=True)
    for step in range(4):
        assert next(found) == 10 * step
        assert step == 3 or begun[step + 1].wait(60)
        assert step > 1 or not begun[step + 2].is_set()  # one ahead, not all
    assert list(found) == [] and list(batches.made(make, [], ahead=True)) == []


def test_a_batch_that_cannot_be_made_ahead_is_an_error_at_its_step():
    def make(step: int) -> int:
        return 1 // (2 - step)

    found = batches.made(make, range(4), ahead=True)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_batches_made_ahead_train_what_those_of_the_moment_do(llama, tmp_path, monkeypatch):
    logs, plain = [], batches.made
    for ahead in (False, True):
        monkeypatch.setattr(batches, "made", lambda make, steps, _, ahead=ahead: plain(make, steps, ahead))
        torch.manual_seed(0)
        train.train(tiny(**{"train.epochs": 1}), fresh(llama), CORPUS, tmp_path / str(ahead))
        lines = (tmp_path / str(ahead) / "log.jsonl").read_text().splitlines()
        logs.append(
            [(line["loss"], line["gradient_norm"], line["tokens"]) for line in map(json.loads, lines)]
        )
    assert logs[0] == logs[1]
