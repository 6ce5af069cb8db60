"""The trained model as a sentence-transformers folder that loads alone, and as a PEFT adapter.

The tokenizer is saved with a template that puts bos and eos around every text, so that the folder
keeps the token contract under any reader of tokenizer.json.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

from tokenizers.processors import TemplateProcessing

from .backbone import Backbone, TokenContract
from .encoder import TEMPLATE
from .provenance import write_json

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
    """A copy of the tokenizer that adds bos and eos by itself, whatever reads it."""
    tokenizer = copy.deepcopy(contract.tokenizer)
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
    tokenizer_with_contract(backbone.contract).save_pretrained(folder)
    config_path = folder / "config.json"
    saved = json.loads(config_path.read_text(encoding="utf-8"))
    rope = saved.get("rope_parameters") or {}
    if "rope_theta" in rope:  # transformers 4 reads these two where transformers 5 has moved or renamed them
        saved |= {"rope_theta": rope["rope_theta"], "torch_dtype": saved.get("dtype", "float32")}
        write_json(config_path, saved)
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text(encoding="utf-8"))
    # The generic class reads tokenizer.json as it is; a model's own class may rebuild it without eos.
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length}
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


def model_card(profile, examples: int, steps: int) -> str:
    """The README of the exported model: what it is, from what, how to use it, and its limits."""
    b, t = profile.backbone, profile.train
    kept = f", first {b.layers} layers" if b.layers else ""
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {b.model if not b.model.startswith("embedded:") else "HuggingFaceTB/SmolLM2-135M-Instruct"}
---
# Text embeddings after "Improving Text Embeddings with Large Language Models"

A decoder-only LLM ({b.model}{kept}) fine-tuned with LoRA (rank {profile.lora.rank}) and a contrastive
loss (temperature {t.temperature}) on {examples:,} synthetic examples for {steps} steps, profile
`{profile.name}` ({profile.hash()}). The vector is the {b.pooling}-token state of the last layer.

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("path/to/this/folder")
queries = model.encode(["how do bees find their way home"], prompt_name="query")
documents = model.encode(["Foragers steer by the sun and by landmarks they have learnt."])
print(model.similarity(queries, documents))
```

Queries carry an instruction (`prompt_name="query"`, "STS", "Classification", ... or your own as
`prompt="Instruct: {{task}}\\nQuery: "`); documents carry none. Scores on the benchmark of the run
stand in its report. A model of this size, trained on this little, is for study: it knows English far
better than other languages, and texts beyond {t.max_length} tokens were not seen in training.
"""
