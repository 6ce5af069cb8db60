"""A file in the 4-bit format becomes the model that it holds."""

import struct

import numpy as np
import pytest
from synthembed.ground.weights import four_bit_e5
from synthembed.ground.weights.four_bit_e5 import EMBEDDING, LAYER

HIDDEN, INNER, WORDS = 32, 64, 7
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁bee", "s", "▁"]


def four_bits(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Blocks of 32 numbers, and what they stand for."""
    packed, meant = b"", []
    for block in values.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 7)
        whole = np.clip(np.round(block / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        packed += scale.tobytes() + bytes(whole[:16] | (whole[16:] << 4))
        meant.append((whole.astype(np.float32) - 8) * np.float32(scale))
    return packed, np.concatenate(meant)


@pytest.fixture
def file(tmp_path):
    """(path, name → values) of a model of one layer."""
    rng, stored, meant = np.random.default_rng(0), {}, {}

    def add(name: str, *shape: int, halves: bool = False) -> None:
        values = rng.normal(size=shape).astype(np.float32)
        stored[name], meant[name] = four_bits(values) if halves else (values.tobytes(), values.ravel())

    add("emb.word", WORDS, HIDDEN, halves=True)
    add("emb.pos", 16, HIDDEN)
    add("emb.type", 2, HIDDEN)
    for part in ("emb.ln", "l0.aln", "l0.oln"):
        add(f"{part}.w", HIDDEN)
        add(f"{part}.b", HIDDEN)
    for part, out, into in [
        *((p, HIDDEN, HIDDEN) for p in ("q", "k", "v", "ao")),
        ("fi", INNER, HIDDEN),
        ("fo", HIDDEN, INNER),
    ]:
        add(f"l0.{part}.w", out, into, halves=True)
        add(f"l0.{part}.b", out)
    texts = [p.encode() for p in PIECES]
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, 4, INNER, WORDS, 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", WORDS, 0, 2, 1, 3, sum(map(len, texts)))
    head += np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    head += np.array([0, 0, 0, 0, -1, -2, -3], "<f4").tobytes() + b"".join(texts) + struct.pack("<iI", 0, 0)
    directory = sum(2 + len(n) + 1 + 4 + 8 + 8 for n in stored)
    at, listed = len(head) + 4 + directory, b""
    for name, data in stored.items():
        listed += struct.pack("<H", len(name)) + name.encode()
        listed += struct.pack("<BIQQ", len(data) != 4 * meant[name].size, meant[name].size, at, len(data))
        at += len(data)
    path = tmp_path / "model.bin"
    path.write_bytes(head + struct.pack("<i", len(stored)) + listed + b"".join(stored.values()))
    return path, meant


def test_every_tensor_is_where_it_belongs(file, tmp_path):
    from sentence_transformers import SentenceTransformer

    path, meant = file
    four_bit_e5.unpack(path, tmp_path / "out")
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    state = model[0].auto_model.state_dict()
    for name, values in meant.items():
        if name in EMBEDDING:
            found = state[EMBEDDING[name]]
        else:
            _, part, kind = name.split(".")
            found = state[f"encoder.layer.0.{LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"]
        assert np.array_equal(found.numpy().ravel(), values), name
    assert model.tokenizer("bees")["input_ids"] == [0, 4, 5, 2]
    assert np.allclose(np.linalg.norm(model.encode(["bees", "bee"]), axis=1), 1, atol=1e-5)
    assert (
        model.prompts["query"] == model.prompts["STS"] == "query: "
        and model.prompts["document"] == "passage: "
    )


def test_another_format_and_a_missing_tensor_are_refused(file, tmp_path):
    path, _ = file
    other = tmp_path / "other.bin"
    other.write_bytes(b"GGUF" + path.read_bytes()[4:])
    with pytest.raises(ValueError, match="E5S1"):
        four_bit_e5.unpack(other, tmp_path / "a")
    other.write_bytes(path.read_bytes().replace(b"l0.ao.w", b"l0.fo.w"))
    with pytest.raises(ValueError, match=r"lacks encoder\.layer\.0\.attention\.output"):
        four_bit_e5.unpack(other, tmp_path / "b")
