"""What a saved model says of itself, on a disk or on a hub: how it is read, and whether its files are whole.

A sentence-transformers folder says how its vectors are made: ``modules.json``, ``1_Pooling``, prompts,
lengths. What this library does not compute is refused by name, since a vector that is read otherwise
looks like any other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from synthembed.ground.data_files.opener import GIT_LFS
from synthembed.ground.weights.embedded import BackboneError

POOLINGS = {"lasttoken": "last", "mean": "mean", "weightedmean": "weighted-mean"}  # theirs -> ours
FLAGS = {  # of older folders: one for each way
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean", "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a saved model is read; ``pooling`` is None where it says nothing, as a plain base does.

    ``prompt`` stands before every text that has no instruction; ``refusal`` says what of it cannot be computed
    here, which is raised where the model is used as it says and not where it is a base for training.
    """

    pooling: str | None = None
    normalize: bool = True
    max_length: int | None = None
    prompt: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    refusal: str = ""


def recipe_of(source: str, revision: str | None = None) -> Recipe:
    """What the sentence-transformers files of a folder or hub id say; an empty recipe if there are none."""
    if not (modules := _json(source, "modules.json", revision)):
        return Recipe()
    kinds = [module.get("type", "").rpartition(".")[2] for module in modules]
    refused = [f"its {kind} module is not computed here" for kind in kinds
               if kind not in ("Transformer", "Pooling", "Normalize")]  # fmt: skip
    if "Pooling" not in kinds:
        refused.append("it has no Pooling module")
    place = next((m.get("path", "") for m, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), "")
    said = _json(source, f"{place}/config.json", revision) if place else None
    way = _way(said or {})
    if way not in POOLINGS:
        refused.append(f"it pools by {way}, and here {', '.join(POOLINGS)} are computed")
    if said and not said.get("include_prompt", True):
        refused.append("it leaves its prompt out of the pooled tokens")
    lengths = _json(source, "sentence_bert_config.json", revision) or {}
    if lengths.get("do_lower_case"):
        refused.append("it lower-cases texts itself (do_lower_case)")
    more = _json(source, "config_sentence_transformers.json", revision) or {}
    prompts = more.get("prompts") or {}
    default = more.get("default_prompt_name")
    if default is not None and default not in prompts:
        refused.append(f"its default prompt {default!r} is not among its prompts")
    return Recipe(
        POOLINGS.get(way), "Normalize" in kinds, lengths.get("max_seq_length"), prompts.get(default, ""), prompts,
        "; ".join(refused),
    )  # fmt: skip


def _way(pooling: dict) -> str:
    """sentence-transformers' name for how a Pooling module pools; its files say it in two ways."""
    ways = pooling.get("pooling_mode") or [way for flag, way in FLAGS.items() if pooling.get(flag)] or "mean"
    return ways if isinstance(ways, str) else " and ".join(ways)


def _json(source: str, name: str, revision: str | None):
    """A JSON file of a folder or hub id; None if it is not there."""
    if Path(source).is_dir():
        path = Path(source) / name
    else:
        from transformers.utils import cached_file

        path = cached_file(
            source, name, revision=revision,
            _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        )  # fmt: skip
    if path is None or not Path(path).is_file():
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(f"{source}: {name} is not JSON ({error}): fetch the model anew") from None


def check_files(source: str) -> None:
    """Raise BackboneError if the files of a local folder are not whole: pointers of git-lfs, a shard that is
    missing or cut off, an adapter in place of a model. A hub id is checked when it is fetched."""
    folder = Path(source)
    if not folder.is_dir():
        return
    if (folder / "adapter_config.json").exists():
        raise BackboneError(
            f"{source} is a LoRA adapter (adapter_config.json), which says nothing of the vectors of a whole model: "
            "give the base model, or merge the adapter into it (peft: merge_and_unload) and save that"
        )
    read = (
        path
        for form in ("model*.safetensors", "*.json", "*.txt", "tokenizer.model")
        for path in folder.glob(form)
    )
    for path in sorted(read):
        if _begins_with(path, GIT_LFS):
            raise BackboneError(
                f"{path} is a pointer of git-lfs and not the file itself: run 'git lfs pull' in {folder}, "
                "or fetch the model with 'hf download'"
            )
    for path in sorted(folder.glob("model*.safetensors")):
        _check_tensors(path)
    index = folder / "model.safetensors.index.json"
    if index.exists() and not (folder / "model.safetensors").exists():
        _check_index(folder, _json(source, index.name, None).get("weight_map", {}))


def _begins_with(path: Path, start: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(start)) == start


def _check_tensors(path: Path) -> set[str]:
    """Names of the tensors of a file; opening it compares its header with its size."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise BackboneError(
            f"{path} ({path.stat().st_size:,} bytes) is no whole safetensors file: {error}. Fetch it anew"
        ) from None


def _check_index(folder: Path, places: dict[str, str]) -> None:
    """Raise unless each tensor that the index names lies in the shard that it names."""
    for shard in sorted(set(places.values())):
        if not (folder / shard).is_file():
            raise BackboneError(
                f"{folder}: model.safetensors.index.json names {shard}, which is not there: fetch it anew"
            )
        expected = {name for name, place in places.items() if place == shard}
        if lacking := sorted(expected - _check_tensors(folder / shard)):
            raise BackboneError(
                f"{folder / shard} lacks {len(lacking)} tensors that the index names, such as {lacking[0]}: "
                "fetch the model anew"
            )
