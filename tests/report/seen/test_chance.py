"""What chance gives, against orders that are really drawn by lot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score
from synthembed.evaluation.suites import embedded_tasks
from synthembed.report.seen import chance


def test_retrieval_among_32_documents_is_14():
    assert round(100 * chance.ndcg([1], 32), 1) == 14.2


@given(st.lists(st.integers(0, 3), min_size=2, max_size=25).filter(any), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_ndcg_by_chance_is_the_mean_over_orders_by_lot(grades, seed):
    rng = np.random.default_rng(seed)
    drawn = [ndcg_score([grades], [rng.random(len(grades))], k=10) for _ in range(600)]
    error = np.std(drawn) / len(drawn) ** 0.5
    found = chance.ndcg([g for g in grades if g], len(grades))
    assert abs(np.mean(drawn) - found) < 5 * error + 1e-9


@pytest.mark.parametrize(("relevant", "documents"), [(1, 2), (1, 20), (3, 7), (6, 6), (40, 120)])
def test_average_precision_by_chance_is_the_mean_over_orders_by_lot(relevant, documents):
    rng, labels = np.random.default_rng(0), [1] * relevant + [0] * (documents - relevant)
    drawn = [average_precision_score(labels, rng.random(documents)) for _ in range(1_500)]
    error = np.std(drawn) / len(drawn) ** 0.5
    assert abs(np.mean(drawn) - chance.average_precision(relevant, documents)) < 5 * error + 1e-9


def test_every_task_of_the_suite_has_its_chance_and_their_average_is_table_1_s():
    tasks = embedded_tasks.embedded()
    found = {t.metadata.name: chance.of_task(t) for t in tasks}
    assert (
        found["EmbeddedTopic"] == 12.5 and found["EmbeddedSTSGeneral"] == 0 and found["EmbeddedBitext"] == 2
    )
    assert 1 < found["EmbeddedEncyclopedia"] < 2 and 2.5 < found["EmbeddedMultilingual"] < 3.5
    counted = ("Class.", "Clust.", "PairClass.", "Rerank", "Retr.", "STS", "Summ.")
    means = chance.averages(tasks)
    assert set(means) == {*counted, "Avg", "Multil.", "Bitext", "Readings"} and 5 < means["Avg"] < 20
    assert not any(t.data_loaded for t in tasks), "what was loaded for it is let go"


def test_a_task_whose_data_lies_elsewhere_has_none():
    import mteb

    assert chance.of_task(mteb.get_task("NFCorpus")) is None
    assert chance.averages([mteb.get_task("NFCorpus")]) == {}
