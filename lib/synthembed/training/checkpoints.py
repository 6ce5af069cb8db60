"""Checkpoints of a training run: atomic, hashed, bounded in number; the log is cut to match.

Everything random in step n is a function of (seed, n), so a checkpoint is the trained tensors, the
optimiser's moments and a number. One safetensors file holds them, with the SHA-256 of it all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from synthembed.corpus.example import Example
from synthembed.ground.files import share_weights
from synthembed.profile.settings import Profile
from synthembed.training import workers

KEPT = 2  # the newest, and the one before it in case the newest is damaged
HOW_IT_RUNS = {
    "workers",
    "sharded",
    "trackers",
    "checkpoint_every",
    "graph_tokens",
    "grow_graphs",
}  # moves no number


def run_key(profile: Profile, examples: list[Example], code: str) -> str:
    """What a run is made from; checkpoints of another run are never resumed."""
    plain = profile.model_copy(update={"train": profile.train.model_copy(update=_defaults(profile))})
    digest = hashlib.sha256(
        "/".join([plain.hash("seed", "backbone", "lora", "train", "pretrain"), code]).encode()
    )
    for example in examples:
        digest.update(repr(example).encode())
    return digest.hexdigest()[:16]


def _defaults(profile: Profile) -> dict:
    return {name: type(profile.train).model_fields[name].get_default() for name in HOW_IT_RUNS}


def save(folder: Path, key: str, trainable: dict, optimiser, step: int, facts: dict) -> None:
    """Write the state after ``step`` steps; ``facts`` are settings that were found while running.

    With several workers all must call it, and the first gathers and writes.
    """
    tensors = {}
    for name, parameter in trainable.items():
        tensors[name] = workers.on_first(parameter.detach())
        for moment, value in optimiser.state[parameter].items():
            tensors[f"{name}//{moment}"] = workers.on_first(value)
    if workers.rank():
        return
    meta = {"step": str(step), "run": key, "facts": json.dumps(facts)}
    target = folder / "checkpoints" / f"step-{step:06d}.safetensors"
    target.parent.mkdir(exist_ok=True)
    partial = target.with_suffix(".partial")
    save_file(tensors, partial, meta | {"sha256": _digest(tensors, meta)})
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)
    share_weights(target.parent)
    for old in sorted(target.parent.glob("step-*.safetensors"))[:-KEPT]:
        old.unlink()


def resume(folder: Path, key: str, trainable: dict, optimiser) -> tuple[int, dict]:
    """Restore the newest sound checkpoint of this very run: the step to go on from, and its facts.

    Without one (0, {}), and the log of another run is removed. A damaged file is passed over with a
    message, and removed. Moments are restored as well.
    """
    first, facts = 0, {}
    for path in sorted((folder / "checkpoints").glob("step-*.safetensors"), reverse=True):
        try:
            meta, tensors = read(path)
        except ValueError as error:
            _say(f"{path.name} is damaged ({error}); trying the one before it")
            continue
        if meta["run"] == key and _log_reaches(folder / "log.jsonl", int(meta["step"])):
            first, facts = int(meta["step"]), json.loads(meta["facts"])
            _restore(tensors, trainable, optimiser)
            _say(f"resuming after step {first}")
        break
    workers.wait()  # all have read before the first one tidies up
    if workers.rank() == 0:
        _tidy(folder, first)
    workers.wait()
    return first, facts


def files(folder: Path) -> list[Path]:
    """What a run of ``folder`` goes on from: its log and its checkpoints."""
    return [*folder.glob("log.jsonl"), *sorted((folder / "checkpoints").glob("step-*.safetensors"))]


def key_of(folder: Path) -> str | None:
    """The key of the run whose newest sound checkpoint lies in ``folder``; None if there is none."""
    for path in sorted((folder / "checkpoints").glob("step-*.safetensors"), reverse=True):
        try:
            with safe_open(path, "pt") as file:
                return (file.metadata() or {}).get("run")
        except (SafetensorError, OSError):
            continue
    return None


def _restore(tensors: dict, trainable: dict, optimiser) -> None:
    for name, parameter in trainable.items():
        workers.copy_into(parameter.data, tensors[name])
        prefix = f"{name}//"
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        optimiser.state[parameter] = {
            k: v.clone()
            if k == "step"
            else workers.copy_into(torch.empty_like(parameter.data, dtype=v.dtype), v)
            for k, v in state.items()
        }


def read(path: Path) -> tuple[dict, dict]:
    """Metadata and tensors of a checkpoint; raises ValueError if its bytes are not those written."""
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from None
    if meta.pop("sha256", None) != _digest(tensors, meta):
        raise ValueError("its SHA-256 does not match")
    return meta, tensors


def _digest(tensors: dict[str, torch.Tensor], meta: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _tidy(folder: Path, step: int) -> None:
    """Leave what belongs to a run that stands after ``step``: its log, its checkpoints."""
    log = folder / "log.jsonl"
    if step == 0:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        log.unlink(missing_ok=True)
        return
    for path in (folder / "checkpoints").iterdir():  # safetensors' own unfinished files as well as ours
        unfinished, number = not path.match("step-*.safetensors"), path.stem.partition("-")[2]
        later = number.isdigit() and int(number) > step  # a copy that a reader made has no number
        if path.is_file() and (unfinished or later):
            path.unlink()
    partial = log.with_suffix(".partial")
    partial.write_text("".join(_lines(log)[:step]), encoding="utf-8")
    os.replace(partial, log)


def _log_reaches(path: Path, step: int) -> bool:
    return len(_lines(path)) >= step


def _lines(path: Path) -> list[str]:
    """Complete lines; a last one that was cut off by a crash is none."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("\n")]


def _say(text: str) -> None:
    if workers.rank() == 0:
        print(text, flush=True)
