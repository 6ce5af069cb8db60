"""Resuming: bit-identical after SIGKILL, past damaged files; and budgets found before step 1."""

import json
import multiprocessing
import random
import time

import pytest
import torch
from safetensors.torch import save_file
from synthembed.model import adapter
from synthembed.model.backbone import Backbone
from synthembed.model.tokens import TokenContract
from synthembed.training import batches, checkpoints, memory_budget, train
from tiny_training import CORPUS, example, fresh, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def run_and_save(folder) -> None:
    """One training run, in a process of its own."""
    from tiny_models import byte_tokenizer, tiny_model

    torch.set_num_threads(1)
    base = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
    trained = train.train(tiny(), base, CORPUS, folder)
    tensors = {n: p.detach() for n, p in trained.model.named_parameters() if p.requires_grad}
    save_file(tensors, folder / "final.safetensors")


def test_killed_and_resumed_is_bit_identical(tmp_path):
    """Killed with SIGKILL at drawn moments, in a step or while a checkpoint is written."""

    starter = multiprocessing.get_context("forkserver")
    starter.set_forkserver_preload(
        ["synthembed.training.train", "peft", "transformers.models.llama.modeling_llama"]
    )

    def start(folder):
        process = starter.Process(target=run_and_save, args=(folder,))
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
def test_a_damaged_checkpoint_is_passed_over(llama, tmp_path, capsys, damage):
    """A file that is short does not parse; one with a wrong bit does, and only the hash tells."""
    train.train(tiny(), llama, CORPUS, tmp_path)
    before = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert [p.name for p in kept] == ["step-000010.safetensors", "step-000012.safetensors"]
    whole = {n: t.clone() for n, t in checkpoints.read(kept[-1])[1].items()}
    damage(kept[-1])
    train.train(tiny(), fresh(llama), CORPUS, tmp_path)
    said = capsys.readouterr().out
    assert f"{kept[-1].name} is damaged" in said and "resuming after step 10" in said
    after = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert after == before
    _, again = checkpoints.read(kept[-1])
    assert again.keys() == whole.keys() and all(torch.equal(again[n], t) for n, t in whole.items())


def test_unfinished_files_of_a_killed_run_are_removed(llama, tmp_path):
    train.train(tiny(), llama, CORPUS, tmp_path)
    kept = sorted((tmp_path / "checkpoints").iterdir())
    for name in (".tmpA1b2C3", "step-000012.partial"):  # safetensors' while it writes, and ours
        (tmp_path / "checkpoints" / name).write_bytes(b"half")
    train.train(tiny(), fresh(llama), CORPUS, tmp_path)
    assert sorted((tmp_path / "checkpoints").iterdir()) == kept


def test_with_every_checkpoint_damaged_training_starts_again(llama, tmp_path, capsys):
    train.train(tiny(), llama, CORPUS, tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        flip_a_bit(path)
    train.train(tiny(), fresh(llama), CORPUS, tmp_path)
    assert "resuming" not in capsys.readouterr().out
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 12


def test_a_finished_run_takes_no_further_step(llama, tmp_path, capsys):
    first = train.train(tiny(), llama, CORPUS, tmp_path)
    again = train.train(tiny(), fresh(llama), CORPUS, tmp_path)
    assert "resuming after step 12" in capsys.readouterr().out
    for (name, one), (_, other) in zip(
        first.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name


def test_checkpoints_of_another_run_are_not_resumed(llama, tmp_path, capsys):
    train.train(tiny(), llama, CORPUS, tmp_path)
    train.train(tiny(seed=5), fresh(llama), CORPUS, tmp_path)
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


def test_the_heaviest_batch_has_the_longest_texts():
    long = example(99, positive="word " * 40)
    corpus = [*CORPUS[:23], long]
    chosen = tiny().train
    step = memory_budget.heaviest(chosen, corpus, 3)
    assert long in batches.schedule(chosen, corpus, 3)(step)
