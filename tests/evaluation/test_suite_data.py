"""The suite's data is read once a process, and no system can change what the next one sees."""

import shutil

import numpy as np
import pytest
from datasets import Dataset
from synthembed.evaluation.suites import embedded_tasks
from synthembed.evaluation.suites.embedded_tasks import embedded


def rows_of(data):
    """Everything in a task's data, as plain lists and dicts."""
    if isinstance(data, dict):
        return {key: rows_of(value) for key, value in data.items()}
    if isinstance(data, Dataset):
        return data.to_list()
    return list(data) if isinstance(data, list) else data


@pytest.fixture
def read(monkeypatch) -> list:
    """The files that were read."""
    found, real = [], embedded_tasks.rows
    monkeypatch.setattr(embedded_tasks, "rows", lambda path: found.append(path.name) or real(path))
    embedded_tasks._data.cache_clear()
    return found


def test_systems_share_what_was_read_and_let_go_of_it(read):
    for task in embedded():
        task.load_data()
        first = rows_of(task.dataset)
        asked = len(read)
        task.unload_data()
        assert task.dataset is None and not task.data_loaded
        (again,) = embedded([task.metadata.name])
        again.load_data()
        assert rows_of(again.dataset) == first and len(read) == asked
        assert first == rows_of(again.read())


def test_a_task_that_is_changed_leaves_the_next_one_alone():
    for name in ("EmbeddedCommunity", "EmbeddedMultilingual", "EmbeddedBitext", "EmbeddedEmotion"):
        task, other = embedded([name] * 2)
        task.load_data()
        before = rows_of(task.dataset)

        def spoil(data):
            for key, value in list(data.items()):
                if isinstance(value, dict):
                    spoil(value)
                elif isinstance(value, list):
                    value.clear()
                data[key + "x"] = data.pop(key)

        spoil(task.dataset)
        other.load_data()
        assert rows_of(other.dataset) == before


def test_edited_data_is_read_again(read, tmp_path, monkeypatch):
    shutil.copytree(embedded_tasks.DATA, tmp_path / "data")
    monkeypatch.setattr(embedded_tasks, "DATA", tmp_path / "data")
    (task,) = embedded(["EmbeddedSTSGeneral"])
    task.load_data()
    path = tmp_path / "data" / "sts" / "general" / "data.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    task.load_data()
    assert len(task.dataset["test"]) == 3


def test_a_classifiers_scores_are_mtebs_own():
    (task,) = embedded(["EmbeddedEmotion"])
    task.load_data()
    labels = task.dataset["test"]["label"]
    guessed = np.random.default_rng(0).permutation(np.asarray(labels))
    own = super(embedded_tasks.ClassificationData, task)._calculate_scores(labels, guessed)
    assert task._calculate_scores(labels, guessed) == own
