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
# Whose settings of texts a folder has: sentence_bert_config.json is today's, whatever the model is.
TEXT_SETTINGS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
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


def recipe_of(source: str, revision: str | None = None, positions: int | None = None) -> Recipe:
    """What the sentence-transformers files of a folder or hub id say; an empty recipe if there are none.
    ``positions`` are those that the model's configuration has."""
    if not (modules := _json(source, "modules.json", revision)):
        return Recipe()
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise BackboneError(f"{source}: modules.json is no list of modules: fetch the model anew")
    kinds = [module.get("type", "").rpartition(".")[2] for module in modules]
    place = next((m.get("path", "") for m, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), "")
    pooling = _json(source, f"{place}/config.json", revision) if place else None
    text = _text_settings(source, revision)
    tokenizer = _json(source, "tokenizer_config.json", revision) or {}
    more = _json(source, "config_sentence_transformers.json", revision) or {}
    prompts, default = more.get("prompts") or {}, more.get("default_prompt_name")
    way = _way(pooling or {})
    refused = [*_refused_modules(modules, kinds), *_refused_settings(text)]
    if text.get("do_lower_case") and not _lower_cases(source, revision, tokenizer):
        refused.append("it lower-cases texts itself (do_lower_case)")
    if "Pooling" in kinds and pooling is None:
        refused.append(f"{place or 'its Pooling module'}/config.json, which says how it pools, is not there")
    if way not in POOLINGS:
        refused.append(f"it pools by {way}, and here {', '.join(POOLINGS)} are computed")
    if pooling and not pooling.get("include_prompt", True):
        refused.append("it leaves its prompt out of the pooled tokens")
    if tokenizer.get("truncation_side") == "left":
        refused.append("it cuts long texts at their beginning (truncation_side left)")
    if kept := more.get("truncate_dim"):
        refused.append(f"it keeps the first {kept} numbers of a vector (truncate_dim)")
    if "AutoModel" in ((_json(source, "config.json", revision) or {}).get("auto_map") or {}):
        refused.append("its layers are code of its own (auto_map), which is not run here")
    if more.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        refused.append(f"it is a {more['model_type']}, which gives no single vector of this kind")
    if default is not None and default not in prompts:
        refused.append(f"its default prompt {default!r} is not among its prompts")
    longest = _longest(text, tokenizer, positions)
    prompt = prompts.get(default) or ""
    return Recipe(POOLINGS.get(way), "Normalize" in kinds, longest, prompt, prompts, "; ".join(refused))


def _refused_modules(modules: list[dict], kinds: list[str]) -> list[str]:
    """What is not computed of a model's modules; Dropout does nothing to a vector."""
    refused = [f"its {kind} module is not computed here" for kind in kinds
               if kind not in ("Transformer", "Pooling", "Normalize", "Dropout")]  # fmt: skip
    refused += [f"its module {name} is code of its own, which is not run here" for module in modules
                if not (name := module.get("type", "")).startswith("sentence_transformers.")]  # fmt: skip
    refused += [f"its model is the one in {place}, not that beside modules.json"
                for module, kind in zip(modules, kinds, strict=True)
                if kind == "Transformer" and (place := module.get("path", ""))]  # fmt: skip
    if "Pooling" not in kinds:
        refused.append("it has no Pooling module")
    order = [kind for kind in kinds if kind != "Dropout"]
    if not refused and order not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        refused.append(f"its modules stand in an order that is not computed here: {', '.join(kinds)}")
    return refused


def _text_settings(source: str, revision: str | None) -> dict:
    """sentence_bert_config.json, or the first that is there of its older names, with older names of its parts as
    today's."""
    named = (_json(source, f"sentence_{kind}_config.json", revision) for kind in TEXT_SETTINGS)
    said = dict(next(filter(None, named), {}))
    for old, new in (("model_args", "model_kwargs"), ("tokenizer_args", "processor_kwargs"),
                     ("config_args", "config_kwargs")):  # fmt: skip
        said.setdefault(new, said.pop(old, None) or {})
    return said


# Of sentence_bert_config.json: what may stand there without a vector being another one.
HARMLESS = {"max_seq_length", "do_lower_case", "unpad_inputs", "transformer_task", "module_output_name"}
HARMLESS |= {"modality_config", "model_kwargs", "processor_kwargs", "config_kwargs"}
HARMLESS_PARTS = {"trust_remote_code", "dtype", "torch_dtype", "attn_implementation", "model_max_length"}
HARMLESS_PARTS |= {"padding_side", "use_fast"}
AS_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}


def _refused_settings(said: dict) -> list[str]:
    """What sentence_bert_config.json asks for and is not done here."""
    refused = [f"it sets {key} = {value!r}" for key, value in said.items() if value and key not in HARMLESS]
    for part in ("model_kwargs", "processor_kwargs", "config_kwargs"):
        refused += [f"it sets {part}: {key} = {value!r}" for key, value in said[part].items()
                    if key not in HARMLESS_PARTS]  # fmt: skip
    if (task := said.get("transformer_task", "feature-extraction")) != "feature-extraction":
        refused.append(f"its states are those of {task}")
    if (ways := said.get("modality_config")) is not None and "message" in ways:
        refused.append("it puts a chat template around every text")
    elif ways is not None and ways.get("text") != AS_TEXT:
        refused.append(f"it reads texts by {ways.get('text')}")
    return refused


def _lower_cases(source: str, revision: str | None, tokenizer: dict) -> bool:
    """Whether the tokenizer lower-cases texts anyway, so that to do it before changes nothing."""
    said, whole = tokenizer.get("do_lower_case"), _json(source, "tokenizer.json", revision)
    if whole is None or said is False:  # which a BERT's class follows, whatever tokenizer.json has
        return bool(said)
    first = whole.get("normalizer") or {}
    steps = [first, *first.get("normalizers", [])]
    return any(step.get("type") == "Lowercase" or step.get("lowercase") for step in steps)


def _longest(said: dict, tokenizer: dict, positions: int | None) -> int | None:
    """Tokens after which sentence-transformers cuts a text: the length that is named, or else the least of
    what the tokenizer and the model can have, which is what today's versions save a length as."""
    if named := said["processor_kwargs"].get("model_max_length") or said.get("max_seq_length"):
        return named
    limits = (tokenizer.get("model_max_length"), positions)
    return min((int(n) for n in limits if n and 0 < n < 10**9), default=None)


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
    modules = _json(source, "modules.json", None)
    inside = (
        modules[0].get("path")
        if isinstance(modules, list) and modules and isinstance(modules[0], dict)
        else ""
    )
    if inside and not (folder / "config.json").exists():
        raise BackboneError(
            f"{source} has its model in {inside}, as old sentence-transformers folders do: open it there and save it again "
            "(SentenceTransformer(folder).save(another)), and name that"
        )
    for path in sorted(folder.glob("model*.safetensors")):
        _check_tensors(path)
    index = folder / "model.safetensors.index.json"
    if index.exists() and (folder / "model.safetensors").exists():
        print(
            f"warning: {folder} has its weights twice: model.safetensors is read, and what {index.name} names is not; "
            "delete the older",
            flush=True,
        )
    elif index.exists():
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
