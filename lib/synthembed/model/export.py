"""The trained model as a sentence-transformers folder that loads alone, as a PEFT adapter, and to publish.

The tokenizer is saved with a template that puts bos and eos around every text, so that the folder
keeps the token contract under any reader of tokenizer.json.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
from pathlib import Path

import torch
import yaml
from jinja2 import Environment, FileSystemLoader
from safetensors import safe_open
from tokenizers.processors import TemplateProcessing

from synthembed.ground import places
from synthembed.ground.files import share_weights, write_json
from synthembed.ground.weights.embedded import EMBEDDED, BackboneError, original
from synthembed.model.backbone import Backbone
from synthembed.model.instructions import TEMPLATE
from synthembed.model.tokens import TokenContract, added_by
from synthembed.profile.settings import Profile

PACKAGE_DATA = ("model_card.md.jinja",)  # read here, and so part of the code's fingerprint

POOLING = {
    "last": "pooling_mode_lasttoken",
    "mean": "pooling_mode_mean_tokens",
    "weighted-mean": "pooling_mode_weightedmean_tokens",
}

MAX_LENGTH = 512  # tokens; the length that the paper evaluates at (Sec. 4.2)

# Instructions by kind of use, in the wording that training uses where it has one (Table 16).
PROMPTS = {
    "query": "Given a question, retrieve passages that answer it",
    "STS": "Retrieve semantically similar text.",
    "BitextMining": "Retrieve parallel sentences.",
    "Classification": "Classify the given text into its category",
    "Clustering": "Identify the topic of the given text",
    "PairClassification": "Retrieve semantically similar text.",
    "Reranking": "Given a question, retrieve passages that answer it",
    "Summarization": "Given a text, retrieve faithful summaries of it",
}


def prompts(style: str) -> dict[str, str]:
    """sentence-transformers prompts by task type; documents never take one (Sec. 3.2)."""
    if style != "natural":
        return {"query": "", "document": ""}
    made = {name: TEMPLATE.format(instruction=text, text="") for name, text in PROMPTS.items()}
    return made | {"document": ""}


def tokenizer_with_contract(contract: TokenContract):
    """A copy of the tokenizer that adds bos and eos by itself, whatever reads it.

    One that is all Python, as PhoBERT's, has no template to be set: its own class puts them there, or BackboneError.
    """
    tokenizer = copy.deepcopy(contract.tokenizer)
    if not tokenizer.is_fast:
        if added_by(tokenizer) != ([] if contract.bos is None else [contract.bos], [contract.eos]):
            raise BackboneError(
                f"a {type(tokenizer).__name__} cannot be saved so that it puts bos {contract.bos} and eos {contract.eos} "
                "around a text: use a base whose tokenizer has a tokenizer.json"
            )
        return tokenizer
    token = tokenizer.convert_ids_to_tokens
    head = [] if contract.bos is None else [(token(contract.bos), contract.bos)]
    tail = (token(contract.eos), contract.eos)
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=[*(t for t, _ in head), "$A", tail[0]], special_tokens=[*head, tail]
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    tokenizer.chat_template = None
    return tokenizer


def export(
    backbone: Backbone, folder: Path, pooling: str, style: str, card: str, max_length: int = MAX_LENGTH
) -> Path:
    """Write ``folder`` so that ``SentenceTransformer(folder)`` gives our vectors without this library.

    ``backbone`` has its adapter merged; ``card`` is the README's text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backbone.model.save_pretrained(folder, safe_serialization=True)
    share_weights(folder)
    tokenizer = tokenizer_with_contract(backbone.contract)
    tokenizer.save_pretrained(folder)
    config_path = folder / "config.json"
    saved = json.loads(config_path.read_text(encoding="utf-8"))
    if saved.pop("auto_map", None):  # the code of a checkpoint, which was not run here and does not go along
        write_json(config_path, saved)
    rope = saved.get("rope_parameters") or {}
    if "rope_theta" in rope:  # transformers 4 reads these two where transformers 5 has moved or renamed them
        saved |= {"rope_theta": rope["rope_theta"], "torch_dtype": saved.get("dtype", "float32")}
        write_json(config_path, saved)
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text(encoding="utf-8"))
    # The generic class reads tokenizer.json as it is; a model's own class may rebuild it without eos.
    config |= {"model_max_length": max_length}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast"} if tokenizer.is_fast else {}
    for key in ("is_local", "local_files_only", "backend", "add_bos_token", "add_eos_token"):
        config.pop(key, None)
    write_json(settings, config)
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    write_json(
        folder / "modules.json",
        [
            {"idx": int(n), "name": n, "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, path, kind in modules
        ],
    )
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "2_Normalize").mkdir(exist_ok=True)
    modes = dict.fromkeys(
        (
            "pooling_mode_cls_token",
            "pooling_mode_max_tokens",
            "pooling_mode_mean_sqrt_len_tokens",
            *POOLING.values(),
        ),
        False,
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": backbone.config.hidden_size, **modes, POOLING[pooling]: True},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts(style), "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def weights_that_differ(folder: Path, backbone: Backbone) -> tuple[int, list[str]]:
    """How many tensors of an exported ``folder`` could be compared with those of ``backbone``, bit by bit, and
    the names of those that differ. A tensor that was saved under another name is not compared."""
    have, compared, differing = dict(backbone.model.state_dict()), 0, []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in sorted(have.keys() & set(file.keys())):
                compared += 1
                if not torch.equal(file.get_tensor(name), have[name].cpu()):
                    differing.append(name)
    return compared, differing


def export_adapter(trained: Backbone, folder: Path) -> Path:
    """The LoRA adapter alone, for ``PeftModel.from_pretrained(base, folder)``.

    ``trained`` has its adapter not merged. Vectors are then read as the card says, bos and eos included. Raises
    BackboneError after a pre-training, whose weights are those of no base that the adapter could name.
    """
    if trained.source.get("pretrained"):
        raise BackboneError(
            "the adapter of a pre-trained base gives other vectors on the base as published: use model/"
        )
    config = trained.model.peft_config["default"]
    name = trained.source["model"]
    config.base_model_name_or_path = original(name)
    config.revision = None if name in EMBEDDED else trained.source.get("revision")  # of the base, on a hub
    trained.model.save_pretrained(folder, save_embedding_layers=False)
    share_weights(folder)
    layers = trained.source.get("layers")
    note = f"Keep the first {layers} layers of the base before loading it.\n" if layers else ""
    (folder / "README.md").write_text(f"# LoRA adapter of the model in ../model\n\n{note}", encoding="utf-8")
    return folder


def model_card(
    profile: Profile,
    data: dict,
    steps: int,
    statistics: dict | None = None,
    rows: list[dict] = (),
    averages: dict[str, float] | None = None,
) -> str:
    """The README of the exported model: what it is, from what, how to use it, its scores and limits.

    ``data`` is data.json's account of the training data, ``statistics`` are those of its synthetic part,
    ``rows`` the model's own rows of scores.json and ``averages`` their means by category.
    """
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True)
    name, licence = profile.backbone.model, None
    if name in EMBEDDED:
        licence = EMBEDDED[name].licence
    base = places.as_written(original(name))
    head = _head(profile, None if Path(name).is_absolute() else base, licence, rows)
    return template.get_template("model_card.md.jinja").render(
        profile=profile, hash=profile.hash("seed", "data", "backbone", "lora", "train"), base=base, examples=data["examples"],
        sets=data["sets"], steps=steps, statistics=statistics, rows=rows, averages=averages or {},
        licence=licence, head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True),
        max_length=MAX_LENGTH, version=importlib.metadata.version("mteb"),
    )  # fmt: skip


def _head(profile: Profile, base: str | None, licence: str | None, rows: list[dict]) -> dict:
    """The card's metadata; a base in a folder of this machine has no name that a hub knows."""
    head: dict = {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    head |= {"base_model": base} if base else {}
    head |= {"license": "gemma" if "Gemma" in licence else licence.lower()} if licence else {}
    head["tags"] = ["sentence-transformers", "text-embeddings", *(["mteb"] if rows else [])]
    results = [
        {
            "task": {"type": row["category"]},
            "dataset": {
                "name": f"{row['benchmark']}: {row['task']} ({row['language']})",
                "type": row["task"],
            },
            "metrics": [{"type": row["metric"], "value": row["score"]}],
        }
        for row in rows
    ]
    if results:
        head["model-index"] = [{"name": profile.evaluate.submission.name, "results": results}]
    return head
