"""An exported folder → an ONNX graph for onnxruntime: ids and mask in, vectors of length 1 out.

Attention masks are computed inside the graph from the mask of tokens, for layers with a window and without, looking
back alone or both ways, so that rows padded on the right have the vectors they have alone.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from synthembed.ground.files import read_json
from synthembed.model.encoder import pool
from synthembed.model.formats.parity import ExportError, read_as

OPSET = 17
RUN = '''"""Texts to vectors by onnxruntime alone: pip install onnxruntime tokenizers numpy"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).parent
PROMPTS = json.loads((HERE / "prompts.json").read_text(encoding="utf-8"))
tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))  # puts bos and eos around a text
tokenizer.no_truncation()  # some files bring a length and a padding of their own
tokenizer.no_padding()
session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=onnxruntime.get_available_providers())


def encode(texts, prompt=""):
    """Vectors (texts, dim), float32, of length 1; give queries ``PROMPTS["query"]``, documents none."""
    rows = []
    for text in [texts] if isinstance(texts, str) else texts:
        ids = tokenizer.encode(prompt + text).ids
        rows.append(ids if len(ids) <= MAX_LENGTH else ids[: MAX_LENGTH - 1] + ids[-1:])
    return np.concatenate([_run(rows[n : n + 32]) for n in range(0, len(rows), 32)])


def _run(rows):
    mask = np.zeros((len(rows), max(map(len, rows))), np.int64)
    ids = np.zeros_like(mask)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return session.run(["vectors"], {"input_ids": ids, "attention_mask": mask})[0]


if __name__ == "__main__":
    query = encode(["how do bees find their way home"], PROMPTS.get("query", ""))
    print(query @ encode(["Foragers steer by the sun.", "The ferry leaves at nine."]).T)
'''


class _Vectors(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, pooling: str):
        super().__init__()
        self.model, self.pooling = model, pooling
        config = model.config
        self.window = (
            getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        )
        self.kinds = sorted(set(getattr(config, "layer_types", None) or []))
        self.both_ways = looks_both_ways(model)
        if self.window and self.both_ways and not getattr(config, "use_bidirectional_attention", False):
            self.window += 1  # which transformers then counts without the token itself

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1])
        back = places[:, None] - places[None, :]  # how far a token looks back, below 0 ahead
        farthest = -(1 << 30) if self.both_ways else 0
        sees = (back >= farthest)[None] & (attention_mask[:, None, :] > 0)
        near = sees & (back.abs() < self.window)[None] if self.window else sees
        masks = {
            kind: torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]
            for kind, seen in (("full_attention", sees), ("sliding_attention", near))
        }
        if len(self.kinds) > 1 or self.kinds == ["sliding_attention"]:
            given = {kind: masks[kind] for kind in self.kinds}
        else:
            given = masks["sliding_attention" if self.window and not self.kinds else "full_attention"]
        # An encoder's positions are its own: RoBERTa's begin at another number.
        more = (
            {} if self.both_ways else {"position_ids": places[None].expand_as(input_ids), "use_cache": False}
        )
        hidden = self.model(input_ids=input_ids, attention_mask=given, **more).last_hidden_state
        if self.pooling == "last":
            last = attention_mask.sum(1) - 1
            return F.normalize(hidden[torch.arange(hidden.shape[0]), last], dim=-1)
        return F.normalize(pool(hidden, attention_mask, self.pooling), dim=-1)


@torch.inference_mode()
def looks_both_ways(model: torch.nn.Module) -> bool:
    """Whether a token's state depends on the tokens behind it, as an encoder's does."""
    states = model(input_ids=torch.tensor([[5, 6, 7, 8], [5, 9, 7, 8]])).last_hidden_state
    return not torch.allclose(states[0, 0], states[1, 0], atol=1e-5, rtol=1e-4)


def write(source: Path, folder: Path) -> Path:
    """model.onnx with tokenizer.json, prompts.json and run_onnx.py in ``folder``; returns the graph's path.

    Raises ExportError if the model cannot be written as a graph, or onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ExportError("ONNX needs onnx and onnxruntime: pip install 'synthembed[own]'") from None
    from transformers import AutoModel

    folder.mkdir(parents=True, exist_ok=True)
    recipe = read_as(source)
    model = AutoModel.from_pretrained(source, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer, on shapes that are constant here
            torch.onnx.export(
                _Vectors(model, recipe.pooling), (ids, mask), folder / "model.onnx", dynamo=False, opset_version=OPSET,
                input_names=["input_ids", "attention_mask"], output_names=["vectors"],
                dynamic_axes={"input_ids": {0: "texts", 1: "tokens"}, "attention_mask": {0: "texts", 1: "tokens"},
                              "vectors": {0: "texts"}},
            )  # fmt: skip
    except Exception as error:
        raise ExportError(
            f"a {model.config.model_type} model cannot be written as ONNX: {str(error).splitlines()[0][:200]}"
        ) from error
    shutil.copy(source / "tokenizer.json", folder)
    said = read_json(source / "config_sentence_transformers.json", {})
    (folder / "prompts.json").write_text(_json(said.get("prompts", {})), encoding="utf-8")
    (folder / "run_onnx.py").write_text(RUN.replace("MAX_LENGTH", str(recipe.max_length)), encoding="utf-8")
    return folder / "model.onnx"


def _json(data) -> str:
    import json

    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


def encode(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """Vectors (texts, dim) by the very file that goes with the graph, in batches of mixed length."""
    import runpy

    run = runpy.run_path(str(folder / "run_onnx.py"))["encode"]
    return np.concatenate([run(list(texts[n : n + 4])) for n in range(0, len(texts), 4)])
