"""Encoding and evaluation over workers: the vectors and scores of one process, also where a worker is killed."""

import json
import os
import signal
import sys
import time
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from cluster_runs import python_path
from synthembed.cluster import actor_pool, session
from synthembed.cluster.session import ClusterError
from synthembed.evaluation import mteb_runs
from synthembed.evaluation.large import spread
from synthembed.evaluation.protocol import MtebEncoder
from synthembed.evaluation.suites import embedded_tasks
from synthembed.ground import hardware
from synthembed.model import backbone as backbones
from synthembed.model import vector_files
from synthembed.model.backbone import Backbone
from synthembed.model.blocks import spread as block_spread
from synthembed.model.blocks import store as blocks
from synthembed.model.blocks.spread import BlockWorker
from synthembed.model.cpu.int8_linear import to_int8
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from synthembed.profile.cluster import Cluster
from synthembed.profile.settings import Backbone as Base
from tiny_models import byte_tokenizer, tiny_model

TWO = Cluster(workers=2, object_store_mb=100)
ONE = Cluster(workers=1, retries=1, object_store_mb=100)  # where none ever works
TEXTS = [f"text {i} about {i % 7} bees" for i in range(100)]


class Slow:
    """What a test's workers hold: says which process they are, and dies or fails on demand."""

    def where(self, number, marks=None):
        """This process; the first piece of work waits until two of them have some."""
        if marks:
            (marks / str(os.getpid())).touch()
        while marks and number == 0 and len(list(marks.iterdir())) < 2:
            time.sleep(0.01)
        return os.getpid()

    def die_once(self, number, mark):
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def die(self, number):
        os.kill(os.getpid(), signal.SIGKILL)

    def until(self, file):
        end = time.monotonic() + 60
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)

    def refuse(self, number):
        raise ValueError(f"no {number}")


class Stillborn(actor_pool.Holder):
    """A process that dies before it can answer."""

    def __init__(self):
        dies()


def refuses():
    raise OSError("no such weights")


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def ray():
    """One Ray for the file; its workers find the test's modules where this process does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = python_path()
    with session.joined(TWO.model_copy(update={"workers": 6})) as connected:  # some are held by the file
        connected.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield connected
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture(scope="module")
def slow(ray):
    with actor_pool.actors(ray, Slow, TWO) as pool:
        yield pool


class Faulty(BlockWorker):
    """What goes wrong is in the name of the store."""

    def encode(self, digest, texts, reading, store):
        if store.root.endswith("elsewhere"):  # where the process that asks does not look
            store = blocks.Store(store.root + "-of-another-machine")
        mark = f"{store.root}-died-{digest}"
        if store.root.endswith("deadly") and int(digest, 16) % 3 == 0 and not os.path.exists(mark):
            open(mark, "w").close()
            if int(digest, 16) % 2:  # after the block is written, or before
                super().encode(digest, texts, reading, store)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(digest, texts, reading, store)


@pytest.fixture(scope="module")
def encoding(ray):
    with actor_pool.actors(ray, partial(Faulty, encoder()), TWO) as pool:
        yield pool


def encoder() -> Encoder:
    return Encoder(
        Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {}), max_length=128
    )


# --- the pool --------------------------------------------------------------------------------------


def test_work_reaches_every_worker_and_is_drawn_as_there_is_room(slow, tmp_path):
    drawn, most, seen = [], 0, set()

    def jobs():
        for number in range(300):
            drawn.append(number)
            yield number, tmp_path

    for done, (_, process) in enumerate(slow.map("where", jobs()), 1):
        seen.add(process)
        most = max(most, len(drawn) - done)
    assert done == 300 and len(seen) == 2 and os.getpid() not in seen
    assert most <= actor_pool.AHEAD * 2  # however long the list, so much of it is held


def test_a_worker_that_is_killed_costs_its_work_a_second_try(slow, tmp_path, capsys):
    found = slow.map("die_once", ((n, tmp_path / "mark") for n in range(20)))
    assert sorted(result for _, result in found) == list(range(20))
    assert "a worker died (die_once): another one takes over" in capsys.readouterr().out


def test_work_that_kills_every_worker_ends_the_run(slow, monkeypatch):
    monkeypatch.setattr(slow, "retries", 1)  # each further one takes seconds to start
    with pytest.raises(ClusterError, match=r"2 workers died over the same piece of work \(die\)"):
        list(slow.map("die", [(1,)]))
    assert len(list(slow.map("where", [(1,), (2,)]))) == 2  # the workers are there again


def test_an_error_is_the_runs_error_and_not_tried_again(slow):
    with pytest.raises(ValueError, match="no 3"):
        list(slow.map("refuse", [(3,)]))


def test_workers_that_cannot_begin_say_why(ray):
    with actor_pool.actors(ray, refuses, ONE) as pool, pytest.raises(OSError, match="no such weights"):
        list(pool.map("where", [(1,)]))


def test_workers_that_die_at_the_start_are_not_started_for_ever(ray):
    with (
        actor_pool.actors(ray, dies, ONE) as pool,
        pytest.raises(ClusterError, match=r"2 workers died over the same piece of work \(beginning\)"),
    ):
        list(pool.map("where", [(1,)]))


def test_workers_that_die_before_they_answer_end_the_run_with_the_cause_and_the_remedy(ray, monkeypatch):
    monkeypatch.setattr(actor_pool, "Holder", Stillborn)
    said = r"(?s)2 workers died .*\(beginning\): .*worker process has died.*logs.* or set cluster\.retries higher"
    with actor_pool.actors(ray, Slow, ONE) as pool, pytest.raises(ClusterError, match=said):
        list(pool.map("where", [(1,)]))


def test_a_worker_that_dies_between_two_lists_of_work_costs_none(slow, monkeypatch):
    monkeypatch.setattr(slow, "retries", 0)
    ((_, process),) = slow.map("where", [(1,)])
    os.kill(process, signal.SIGKILL)
    assert process not in {there for _, there in slow.map("where", [(n,) for n in range(9)])}


def test_what_is_waited_for_is_said(slow, monkeypatch, capsys, tmp_path):
    """The work lasts until it is said, however long a worker takes to answer on a busy machine."""
    say, said = slow._say_what_is_awaited, tmp_path / "said"

    def saying(*awaited):
        say(*awaited)
        if "waiting: of 2 workers 0 are not placed yet" in capsys.readouterr().out:
            said.touch()

    monkeypatch.setattr(actor_pool, "PATIENCE_S", 0.1)
    monkeypatch.setattr(slow, "_say_what_is_awaited", saying)
    assert len(list(slow.map("until", [(said,)]))) == 1
    assert said.exists()


# --- encoding --------------------------------------------------------------------------------------


def test_one_corpus_over_two_workers_has_the_vectors_of_one_process(encoding, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    reading, alone = blocks.Reading("m", "the task"), encoder()
    here, there = blocks.Store(str(tmp_path / "here")), blocks.Store(str(tmp_path / "there"))
    expected = blocks.keep(alone, TEXTS, reading, here)
    found = blocks.keep(alone, TEXTS, reading, there, run=block_spread.over(encoding))
    assert found == expected
    assert np.allclose(blocks.vectors_of(there, found), blocks.vectors_of(here, expected), atol=2e-6)
    near = block_spread.nearest_over(encoding, alone.encode(TEXTS[:3]), there, found, 5)
    monkeypatch.setattr(block_spread, "PART", 2)
    parts = block_spread.nearest_over(encoding, alone.encode(TEXTS[:3]), there, found, 5)
    assert near[1].tolist() == parts[1].tolist() and near[1].shape == (3, 5)


def test_blocks_that_only_another_machine_has_are_noticed_at_the_first(encoding, tmp_path):
    store, run = blocks.Store(str(tmp_path / "elsewhere")), block_spread.over(encoding)
    said = r"not in .*elsewhere.*: set cluster\.storage to a folder that all nodes"
    with pytest.raises(ClusterError, match=said):
        blocks.keep(encoder(), TEXTS, blocks.Reading("m"), store, run=run)


def test_workers_killed_in_the_middle_leave_the_same_vectors(encoding, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 16)
    store, run = blocks.Store(str(tmp_path / "deadly")), block_spread.over(encoding)
    found = blocks.keep(encoder(), TEXTS, blocks.Reading("m"), store, run=run)
    assert np.allclose(blocks.vectors_of(store, found), encoder().encode(TEXTS), atol=2e-6)
    assert list(tmp_path.glob("deadly-died-*"))  # some did die


def test_a_file_of_vectors_made_by_workers_is_the_one_that_this_process_makes(
    ray, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(blocks, "BLOCK", 16)
    loaded = Encoder(
        backbones.load(Base(model=str(tiny_folder))), max_length=16
    )  # with all that makes a CPU fast
    reading, path = blocks.Reading("m", dtype="float16"), tmp_path / "v.npy"
    count, cut, unknown = block_spread.encode_to(loaded, iter(TEXTS), path, reading, TWO, len(TEXTS))
    vector_files.encode_to(loaded, TEXTS, tmp_path / "w.npy", identity="m")
    found, expected = (np.load(p, mmap_mode="r") for p in (path, tmp_path / "w.npy"))
    assert (count, cut, unknown) == (100, 100, 0) and found.dtype == expected.dtype == np.float16
    assert np.allclose(found, expected, atol=1e-3) and not (tmp_path / "v.npy.blocks").exists()
    with pytest.raises(vector_files.VectorsError, match=r"v\.npy is there already"):
        block_spread.encode_to(loaded, TEXTS, path, reading, TWO)


def test_a_worker_puts_the_model_on_its_own_device_as_precise_as_it_came(monkeypatch):
    monkeypatch.setattr(hardware, "device", lambda: torch.device("meta"))
    sent, whole = encoder(), encoder()
    sent.backbone.model.to(torch.bfloat16)
    held = BlockWorker(sent).encoder.backbone
    assert {(p.device.type, p.dtype) for p in held.model.parameters()} == {("meta", torch.bfloat16)}
    whole.backbone.model = to_int8(whole.backbone.model)
    assert BlockWorker(whole).encoder.backbone.device.type == "cpu"


def test_weights_travel_from_the_cpu_and_go_back_to_their_gpu(monkeypatch, tmp_path):
    sent, seen = encoder(), []

    @contextmanager
    def actors(*_):
        seen.append("sent")
        yield

    def keep(*_):
        raise ClusterError("while they encode")

    there = torch.empty(1, device="meta")  # stands for a GPU, where there is none: what moves is watched
    monkeypatch.setattr(sent.backbone.model, "parameters", lambda: iter([there]))
    monkeypatch.setattr(sent.backbone.model, "to", lambda on: seen.append(str(on)))
    monkeypatch.setattr(session, "joined", lambda cluster: nullcontext())
    monkeypatch.setattr(actor_pool, "actors", actors)
    monkeypatch.setattr(block_spread, "keep", keep)
    with spread.placed(TWO, MtebEncoder(sent, "synthembed/tiny", "1")):
        assert seen == ["cpu", "sent", "meta"]  # this process encodes, too
    seen.clear()
    with pytest.raises(ClusterError, match="while they encode"):
        block_spread.encode_to(sent, TEXTS, tmp_path / "v.npy", blocks.Reading("m"), TWO)
    assert seen == ["cpu", "sent", "meta"]


# --- evaluation ------------------------------------------------------------------------------------

TASKS = ["EmbeddedSTSGeneral", "EmbeddedBitext", "EmbeddedMultilingual"]


def scores_of(model, folder) -> list[dict]:
    tasks = embedded_tasks.embedded(TASKS)
    for task in tasks:
        task.hf_subsets = list(task.hf_subsets)[:2]
    rows = mteb_runs.run_tasks(model, tasks, folder, "tiny")
    assert not (folder / "parts" / TASKS[0]).exists()
    return rows


def test_tasks_over_two_workers_have_the_scores_of_one_process(ray, tmp_path, monkeypatch):
    model = MtebEncoder(encoder(), "synthembed/tiny", "1")
    alone = scores_of(model, tmp_path / "alone")
    with spread.placed(TWO, model):
        assert scores_of(model, tmp_path / "spread") == alone
        for name in TASKS:
            here, there = (
                json.loads((tmp_path / f / "units" / f"{name}.units.json").read_text())
                for f in ("alone", "spread")
            )
            assert here["units"].keys() == there["units"].keys()
        monkeypatch.setattr(blocks, "BLOCK", 16)
        monkeypatch.setattr(spread, "SHARED", 0)  # all corpora are large: by the block, over both workers
        monkeypatch.setattr(spread, "documents", lambda *of: 1)
        by_block = scores_of(model, tmp_path / "blocks")
    assert model.pool is None
    assert [r["score"] for r in by_block] == pytest.approx([r["score"] for r in alone], abs=0.01)
