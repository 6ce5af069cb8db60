"""Resuming: bit-identical after SIGKILL, past damaged files; and budgets found before step 1."""

import json
import random
import shutil
import time

import pytest
import torch
from forked_processes import processes
from safetensors.torch import save_file
from synthembed.model import adapter
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from synthembed.training import batches, checkpoints, memory_budget, train
from tiny_models import byte_tokenizer, tiny_model
from tiny_training import CORPUS, example, fresh, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder, weights) of a run that was finished, for copies of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("finished")
    base = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
    model = train.train(tiny(), base, CORPUS, folder)
    torch.set_num_threads(before)
    return folder, {name: p.detach().clone() for name, p in model.model.named_parameters()}


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of the finished run, to be damaged and gone on with."""
    return shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)


def run_and_save(folder) -> None:
    """One training run, in a process of its own."""
    torch.set_num_threads(1)
    base = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
    trained = train.train(tiny(), base, CORPUS, folder)
    tensors = {n: p.detach() for n, p in trained.model.named_parameters() if p.requires_grad}
    save_file(tensors, folder / "final.safetensors")


def test_killed_and_resumed_is_bit_identical(tmp_path):
    """Killed with SIGKILL at drawn moments, in a step or while a checkpoint is written."""

    def start(folder):
        process = processes().Process(target=run_and_save, args=(folder,))
        process.start()
        return process

    def finish(process) -> None:
        process.join(120)
        assert process.exitcode == 0

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    finish(start(whole))
    drawn, killed = random.Random(5), 0
    for kill_after in sorted(drawn.sample(range(1, 10), 6)):
        process = start(torn)
        log = torn / "log.jsonl"
        while process.is_alive() and (not log.exists() or log.read_bytes().count(b"\n") < kill_after):
            time.sleep(0.001)
        time.sleep(drawn.random() * 0.02)
        killed += process.is_alive()
        process.kill()
        process.join()
    assert killed >= 3
    finish(start(torn))
    losses = [
        [(x["step"], x["loss"]) for x in map(json.loads, (f / "log.jsonl").read_text().splitlines())]
        for f in (whole, torn)
    ]
    assert losses[0] == losses[1]
    assert (whole / "final.safetensors").read_bytes() == (torn / "final.safetensors").read_bytes()
    assert len(list((torn / "checkpoints").iterdir())) == 2


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(bytes(data))


def other_step(path):
    path.write_bytes(path.read_bytes().replace(b'"step":"12"', b'"step":"11"'))


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, other_step])
def test_a_damaged_checkpoint_is_passed_over(llama, finished, capsys, damage):
    """A file that is short does not parse; one with a wrong bit does, and only the hash tells."""
    before = [json.loads(line)["loss"] for line in (finished / "log.jsonl").read_text().splitlines()]
    kept = sorted((finished / "checkpoints").iterdir())
    assert [p.name for p in kept] == ["step-000010.safetensors", "step-000012.safetensors"]
    whole = {n: t.clone() for n, t in checkpoints.read(kept[-1])[1].items()}
    damage(kept[-1])
    train.train(tiny(), fresh(llama), CORPUS, finished)
    said = capsys.readouterr().out
    assert f"{kept[-1].name} is damaged" in said and "resuming after step 10" in said
    after = [json.loads(line)["loss"] for line in (finished / "log.jsonl").read_text().splitlines()]
    assert after == before
    _, again = checkpoints.read(kept[-1])
    assert again.keys() == whole.keys() and all(torch.equal(again[n], t) for n, t in whole.items())


def test_unfinished_files_of_a_killed_run_are_removed(llama, finished):
    kept = sorted((finished / "checkpoints").iterdir())
    for name in (".tmpA1b2C3", "step-000012.partial"):  # safetensors' while it writes, and ours
        (finished / "checkpoints" / name).write_bytes(b"half")
    train.train(tiny(), fresh(llama), CORPUS, finished)
    assert sorted((finished / "checkpoints").iterdir()) == kept


def test_what_a_reader_put_beside_the_checkpoints_stays_and_stops_nothing(llama, finished):
    place = finished / "checkpoints"
    (place / ".ipynb_checkpoints").mkdir()
    shutil.copy(place / "step-000012.safetensors", place / "step-000012 (copy).safetensors")
    before = sorted(place.iterdir())
    train.train(tiny(), fresh(llama), CORPUS, finished)
    assert sorted(place.iterdir()) == before


def test_with_every_checkpoint_damaged_training_starts_again(llama, finished, capsys):
    for path in (finished / "checkpoints").iterdir():
        flip_a_bit(path)
    train.train(tiny(), fresh(llama), CORPUS, finished)
    assert "resuming" not in capsys.readouterr().out
    assert len((finished / "log.jsonl").read_text().splitlines()) == 12


def test_a_finished_run_takes_no_further_step(llama, trained, finished, capsys):
    again = dict(train.train(tiny(), fresh(llama), CORPUS, finished).model.named_parameters())
    assert "resuming after step 12" in capsys.readouterr().out
    assert again.keys() == trained[1].keys()
    for name, weight in trained[1].items():
        assert torch.equal(weight, again[name]), name


def test_checkpoints_of_another_run_are_not_resumed(llama, finished, capsys):
    train.train(tiny(seed=5), fresh(llama), CORPUS, finished)
    assert "resuming" not in capsys.readouterr().out


def test_budgets_shrink_until_the_heaviest_batch_fits(llama, monkeypatch, tmp_path, capsys):
    """A stand-in for the allocator: chunks of more than 130 tokens do not fit, and no kept graphs."""
    real, sizes = memory_budget._try, []

    def limited(model, batch, settings, run):
        largest = max(sum(map(len, c)) for c in batch.chunks)
        sizes.append(largest)
        if largest > 130 or settings.graph_tokens:
            raise torch.OutOfMemoryError("full")
        real(model, batch, settings, run)

    monkeypatch.setattr(memory_budget, "_try", limited)
    chosen = tiny(
        **{"train.chunk_tokens": 1000, "train.graph_tokens": 600, "train.gradient_checkpointing": "auto"}
    )
    train.train(chosen, llama, CORPUS, tmp_path)
    assert sizes[0] > 250 and sizes[-1] <= 130 and len(sizes) == 4
    said = capsys.readouterr().out
    assert said.count("out of memory") == 3 and "'gradient_checkpointing': False" in said
    meta, _ = checkpoints.read(max((tmp_path / "checkpoints").iterdir()))
    assert json.loads(meta["facts"]) == {
        "chunk_tokens": 125,
        "graph_tokens": 0,
        "gradient_checkpointing": False,
    }
    before = len(sizes)
    (tmp_path / "checkpoints" / "step-000012.safetensors").unlink()
    train.train(chosen, fresh(llama), CORPUS, tmp_path)  # resumed: as it was found, without trying again
    assert len(sizes) == before


def test_checkpointing_comes_on_only_if_one_text_does_not_fit(llama, monkeypatch, tmp_path):
    def limited(model, batch, settings, run):
        if not settings.gradient_checkpointing:
            raise torch.OutOfMemoryError("full")
        assert settings.chunk_tokens == 96 and not settings.graph_tokens

    monkeypatch.setattr(memory_budget, "_try", limited)
    chosen = tiny(**{"train.gradient_checkpointing": "auto", "train.max_steps": 1})
    found = memory_budget.fit(chosen, adapter.add_lora(llama, chosen.lora, 0), CORPUS, None, {})
    assert found.gradient_checkpointing is True and found.chunk_tokens == 96  # as asked for, again
    assert all(m.gradient_checkpointing for m in memory_budget.layers_of(llama.model))
    monkeypatch.setattr(
        memory_budget, "_try", lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError("full"))
    )
    with pytest.raises(batches.TrainingError, match=r"one text of \d+ tokens does not fit"):
        memory_budget.fit(chosen, Backbone(llama.model, llama.contract, {}), CORPUS, None, {})


@pytest.mark.parametrize(
    "usable,fits,wanted", [(2000, 10**6, 150), (2000, 110, 75), (10**9, 10**6, "all"), (2000, 0, 0)]
)
def test_kept_graphs_grow_into_free_memory(llama, monkeypatch, capsys, usable, fits, wanted):
    """A stand-in for the allocator: 500 bytes and 10 for each token that is kept; more than ``fits`` fail."""
    model, chosen = llama, tiny(**{"train.chunk_tokens": 40, "train.grow_graphs": True})
    batch = batches.Batch(CORPUS[:8], model, chosen.train, 0, 1)
    all_of_it = sum(map(batch.size_of, batch.chunks))
    assert len(batch.chunks) > 2 and all_of_it > 200
    tried = []

    def limited(model, batch, settings, run):
        tried.append(settings.graph_tokens)
        if settings.graph_tokens > fits:
            raise torch.OutOfMemoryError("full")

    def peak(attempt, on):
        return 0 if memory_budget._out_of_memory(attempt) else 500 + 10 * tried[-1]

    monkeypatch.setattr(memory_budget, "_try", limited)
    monkeypatch.setattr(memory_budget, "_peak", peak)
    monkeypatch.setattr(memory_budget, "_usable", lambda on: usable)
    found = memory_budget.grown(chosen.train, batch, model, None)
    expected = all_of_it if wanted == "all" else wanted
    assert found.graph_tokens == expected
    assert ("free memory keeps the graphs" in capsys.readouterr().out) == (expected > 0)
    assert found.model_copy(update={"graph_tokens": 0}) == chosen.train  # and nothing else has changed


def test_graphs_do_not_grow_on_a_cpu_nor_in_shards(llama, tmp_path):
    alike = tiny(**{"train.grow_graphs": True})
    train.train(alike, fresh(llama), CORPUS, tmp_path)
    meta, _ = checkpoints.read(max((tmp_path / "checkpoints").iterdir()))
    assert json.loads(meta["facts"])["graph_tokens"] == alike.train.graph_tokens
    assert checkpoints.run_key(alike, CORPUS, "") == checkpoints.run_key(tiny(), CORPUS, "")
    with pytest.raises(ValueError, match="grow_graphs and sharded do not go together"):
        tiny(**{"train.grow_graphs": True, "train.sharded": True})
    with pytest.raises(ValueError, match="where that does not fit, set method lora with sharded"):
        tiny(**{"train.method": "qlora", "train.sharded": True})


def test_the_heaviest_batch_has_the_longest_texts():
    long = example(99, positive="word " * 40)
    corpus = [*CORPUS[:23], long]
    chosen = tiny().train
    step = memory_budget.heaviest(chosen, corpus, 3)
    assert long in batches.schedule(chosen, corpus, 3)(step)
