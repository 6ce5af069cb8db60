"""Several workers (gloo): the gradients and the run of one worker with the whole batch."""

import json
import os
import socket
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from forked_processes import processes
from synthembed.ground import hardware
from synthembed.model import adapter, probe
from synthembed.model import backbone as backbones
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from synthembed.training import batches, memory_budget, train, workers
from tiny_models import byte_tokenizer, saved_base, tiny_model
from tiny_training import CORPUS, assert_equal, tiny, with_adapter

CASES = {  # settings, dropout, sharded
    "plain": ({"train.chunk_tokens": 48, "train.graph_tokens": 10**6}, 0.0, False),
    "dropout, nothing kept": ({"train.chunk_tokens": 48}, 0.3, False),
    "checkpointing, some kept": (
        {"train.chunk_tokens": 48, "train.graph_tokens": 64, "train.gradient_checkpointing": True}, 0.3, False,
    ),
    "symmetric, no masks": (
        {"train.chunk_tokens": 48, "train.symmetric": True, "train.mask_known_positives": False}, 0.0, False,
    ),
    "one large chunk": ({"train.chunk_tokens": 10**6}, 0.0, False),
    "sharded": ({"train.chunk_tokens": 48, "train.graph_tokens": 100}, 0.0, True),
}  # fmt: skip


def gradients_of(case: str) -> tuple[float, dict]:
    """Loss and gradients of the case on the workers that there are, in float64."""
    changes, dropout, sharded = CASES[case]
    chosen = tiny(**changes)
    base = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
    model = with_adapter(base, dropout)
    memory_budget.set_checkpointing(model, chosen.train.gradient_checkpointing)
    probe.findings(base.model)  # as load() does, before weights are spread
    if sharded and workers.world() > 1:
        workers.shard(model.model, memory_budget.layers_of(model.model))
    batch = batches.Batch(CORPUS[:12], model, chosen.train, 7, workers.world())
    trainable = {n: p for n, p in model.model.named_parameters() if p.requires_grad}
    loss, _ = train.gradients(chosen, model, batch, chosen.train, trainable)
    return loss, {n: workers.whole(p.grad) for n, p in trainable.items()}


def weights_of_the_first() -> tuple[bool, dict]:
    """Whether this worker's copy has no weights before it gets its shards; the weights put together again."""
    made = Backbone(tiny_model("llama"), None, {}) if workers.rank() == 0 else None
    base = workers.of_first(made)
    empty = all(p.is_meta for p in base.model.parameters())
    shards = workers.shard_of_first(base, memory_budget.layers_of, torch.device("cpu"))
    tensors = [*shards.model.named_parameters(), *shards.model.named_buffers()]
    return empty, {name: workers.whole(tensor.detach()) for name, tensor in tensors}


def bases_of_a_pre_trained_run(folder: str) -> list[int]:
    """Numbers that this worker holds of the base, of one to be pre-trained and of what a training has left."""
    base = saved_base(Path(folder) / f"base{workers.rank()}")
    chosen = tiny(
        **{"backbone.model": str(base), "train.sharded": True, "pretrain": {"source": "docstrings"}}
    )
    model, _ = train.prepare(chosen, train.base_of(chosen))
    bases = [train.base_of(chosen), train.put_together(chosen, model)]
    return [sum(p.numel() for p in b.model.parameters() if not p.is_meta) for b in bases]


def in_workers(count: int, folder: Path) -> None:
    """``_worker`` in so many processes, which find each other as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        processes().Process(target=_worker, args=(str(folder), rank, count, port), daemon=True)
        for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0] * count


@pytest.mark.parametrize("workers", [2, 4])
def test_gradients_of_several_workers_are_those_of_one(tmp_path, workers):
    """Not 1/workers of them; on every worker the same. Negatives are gathered, so the loss is the same."""
    in_workers(workers, tmp_path)
    for case in CASES:
        loss, expected = gradients_of(case)
        for rank in range(workers):
            found = torch.load(tmp_path / f"{rank}.pt")[case]
            assert found["loss"] == pytest.approx(loss, rel=1e-12), case
            assert_equal(found["gradients"], expected)
    model = tiny_model("llama")
    expected = dict(model.named_parameters()) | dict(model.named_buffers())
    for rank in range(workers):
        empty, found = torch.load(tmp_path / f"{rank}.pt")["first"]
        assert empty == (rank > 0) and found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        whole = 0 if rank else sum(p.numel() for p in model.parameters())
        assert torch.load(tmp_path / f"{rank}.pt")["bases"] == [whole, whole]


def test_all_workers_get_their_share_and_every_text_once(llama):
    chosen = tiny(**{"train.chunk_tokens": 100}).train
    alone = batches.Batch(CORPUS, llama, chosen, 7)
    for count in (2, 3, 4):
        batch = batches.Batch(CORPUS, llama, chosen, 7, count)
        parts = [batch.chunks[batch.share(w)] for w in range(count)]
        assert len({len(p) for p in parts}) == 1 and list(chain(*parts)) == batch.chunks
        assert sum(batch.sizes()) == sum(map(len, batch.chunks))
        rows, single = list(chain(*batch.chunks)), list(chain(*alone.chunks))
        for name in ("query_rows", "document_rows"):
            here, there = getattr(batch, name), getattr(alone, name)
            assert [rows[i] for i in here] == [single[i] for i in there]
        tokens = [sum(len(r) for c in p for r in c) for p in parts]
        assert max(tokens) - min(tokens) <= 2 * chosen.chunk_tokens


def test_a_sharded_run_of_two_workers_is_the_run_of_one(tiny_folder, tmp_path):
    """Started by torchrun from here, with checkpoints of the shards put together."""
    changes = {"backbone.model": str(tiny_folder), "train.epochs": 1, "lora.dropout": 0}
    losses, models = [], []
    for count in (1, 2):
        chosen = tiny(**changes, **{"train.workers": count, "train.sharded": True})
        base = backbones.load(chosen.backbone, chosen.seed)
        trained = train.train(chosen, base, CORPUS, tmp_path / str(count))
        log = (tmp_path / str(count) / "log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in log])
        models.append({n: p for n, p in trained.model.named_parameters() if p.requires_grad})
        assert not list((tmp_path / str(count)).glob("job*"))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, one in models[0].items():
        assert torch.allclose(models[1][name], one, atol=2e-3), name


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_sharded_run_is_pre_trained_as_that_of_one(tiny_folder, tmp_path, method):
    """After it the first worker has the whole model again, and the others none of it."""
    pairs = [json.dumps({"title": f"title {n}", "body": f"what number {n} says"}) + "\n" for n in range(16)]
    (tmp_path / "pairs.jsonl").write_text("".join(pairs))
    changes = {"backbone.model": str(tiny_folder), "train.epochs": 1, "lora.dropout": 0, "train.method": method,
               "train.learning_rate": 1e-3, "train.sharded": True,
               "pretrain": {"source": str(tmp_path / "pairs.jsonl"), "set": {"train.max_steps": 2}}}  # fmt: skip
    losses, models = [], []
    for count in (1, 2):
        chosen = tiny(**changes, **{"train.workers": count})
        trained = train.train(
            chosen, backbones.load(chosen.backbone, chosen.seed), CORPUS, tmp_path / str(count)
        )
        log = (tmp_path / str(count) / "log.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in log])
        models.append(dict(adapter.merge_lora(trained).model.named_parameters()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, one in models[0].items():
        assert torch.allclose(models[1][name], one, atol=2e-3), name


def test_a_pre_training_in_shards_before_a_training_that_is_not_is_refused():
    """It failed when the pre-training was done, with the model in shards."""
    with pytest.raises(ValueError, match=r"pretrain\.set: train\.sharded, but .* for both"):
        tiny(**{"pretrain": {"source": "docstrings", "set": {"train.sharded": True}}})
    tiny(**{"pretrain": {"source": "docstrings", "set": {"train.sharded": False}}, "train.sharded": True})


def test_a_notebooks_gpu_is_the_workers_while_they_train(monkeypatch):
    """Its model has left before what torch keeps, and what a cycle holds, is given back, once; it returns after."""
    done, on = [], torch.device("cuda")
    model = SimpleNamespace(
        to=lambda device: done.append(f"model to {device}"),
        parameters=lambda: iter([SimpleNamespace(device=on)]),
    )
    monkeypatch.setattr(hardware, "release", lambda: done.append("release"))
    with hardware.on_cpu(model):
        done.append("workers")
    assert done == ["model to cpu", "release", "workers", "model to cuda"]


def test_a_worker_that_fails_says_why(tmp_path):
    with pytest.raises(
        RuntimeError, match=r"2 workers failed; workers.log has all of it:\n(.*\n)*.*No module"
    ):
        workers.launch("synthembed.nothing", [], 2, tmp_path / "workers.log")


def _worker(folder: str, rank: int, count: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    workers.join()
    found = {}
    for case in CASES:
        loss, gradients = gradients_of(case)
        found[case] = {"loss": loss, "gradients": gradients}
    found["first"] = weights_of_the_first()
    found["bases"] = bases_of_a_pre_trained_run(folder)
    torch.save(found, f"{folder}/{workers.rank()}.pt")
    workers.leave()
