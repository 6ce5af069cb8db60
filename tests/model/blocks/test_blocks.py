"""Blocks on disk: what is kept is not made again, what differs is, and a write that fails once costs nothing."""

import fsspec
import numpy as np
import pytest
from synthembed.model.backbone import Backbone
from synthembed.model.blocks import store as blocks
from synthembed.model.blocks.store import Reading, Store, keep, vectors_of
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model

TEXTS = [f"text {i % 40} about {i % 7} bees" for i in range(100)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 16)


class Counting(Encoder):
    rows_seen = 0

    def encode_rows(self, rows, begin=None, progress=None):
        self.rows_seen += len(rows)
        return super().encode_rows(rows, begin, progress)


def test_vectors_are_those_of_the_encoder_and_nothing_is_made_twice(llama, tmp_path):
    encoder, store = Counting(llama), Store(str(tmp_path / "b"))
    found = keep(encoder, iter(TEXTS), Reading("m", "the task"), store)
    assert [b.rows for b in found] == [16] * 6 + [4]
    assert np.allclose(vectors_of(store, found), Encoder(llama).encode(TEXTS, "the task"), atol=2e-6)
    seen = encoder.rows_seen
    assert keep(encoder, TEXTS, Reading("m", "the task"), store) == found and encoder.rows_seen == seen
    longer = keep(encoder, [*TEXTS[:32], "new"], Reading("m", "the task"), store)
    assert longer[:2] == found[:2] and encoder.rows_seen == seen + 1


def test_whatever_moves_a_vector_makes_another_block(llama, tmp_path):
    store, texts = Store(str(tmp_path)), TEXTS[:16]
    ways = [
        (Encoder(llama), Reading("m")),
        (Encoder(llama), Reading("other weights")),
        (Encoder(llama), Reading("m", "an instruction")),
        (Encoder(llama), Reading("m", normalize=False)),
        (Encoder(llama), Reading("m", dtype="float16")),
        (Encoder(llama, max_length=64), Reading("m")),
        (Encoder(llama, pooling="mean"), Reading("m")),
    ]
    names = {keep(encoder, texts, reading, store)[0].name for encoder, reading in ways}
    names.add(keep(Encoder(llama), ["a" + texts[0], *texts[1:]], Reading("m"), store)[0].name)
    names.add(keep(Encoder(llama), [texts[0] + texts[1], *texts[2:]], Reading("m"), store)[0].name)
    assert len(names) == len(ways) + 2


def test_cut_texts_are_remembered_with_the_block(llama, tmp_path):
    store, texts = Store(str(tmp_path)), ["bee " * 40, "bee " * 40, "bee"]
    (first,) = keep(Encoder(llama, max_length=16), texts, Reading("m"), store)
    assert (first.rows, first.distinct, first.cut) == (3, 2, 1)
    assert keep(Encoder(llama, max_length=16), texts, Reading("m"), store) == [first]


def test_texts_in_unknown_signs_are_remembered_with_the_block(tmp_path):
    tokenizer, store = byte_tokenizer("llama"), Store(str(tmp_path))
    tokenizer.unk_token = tokenizer.tokenize("x")[0]
    encoder = Encoder(Backbone(tiny_model("llama"), TokenContract.of(tokenizer), {}))
    (first,) = keep(encoder, ["xxx", "bee", "xxx"], Reading("m"), store)
    assert (first.distinct, first.cut, first.unknown) == (2, 0, 1)
    assert keep(encoder, ["xxx", "bee", "xxx"], Reading("m"), store) == [first]
    assert blocks.Block.named("ab-3-2-1.npy") == blocks.Block("ab", 3, 2, 1)  # a name without that count


def test_a_block_that_is_not_whole_says_so(llama, tmp_path):
    store = Store(str(tmp_path))
    (block,) = keep(Encoder(llama), TEXTS[:5], Reading("m"), store)
    path = tmp_path / block.name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(blocks.BlockError, match=r"is not whole .*: delete it"):
        store.read(block)


def test_storage_that_fails_a_write_once_costs_a_second_write(llama, monkeypatch):
    place = "memory://vectors/once"
    files = fsspec.filesystem("memory")
    failures, write = iter([True]), type(files).pipe_file

    def failing(self, path, value, **more):
        if next(failures, False):
            raise OSError("the disk said no")
        return write(self, path, value, **more)

    monkeypatch.setattr(type(files), "pipe_file", failing)
    store = Store(place)
    found = keep(Encoder(llama), TEXTS, Reading("m"), store)
    assert np.allclose(vectors_of(store, found), Encoder(llama).encode(TEXTS), atol=2e-6)
    assert not [p for p in files.ls("/vectors/once", detail=False) if p.endswith(".partial")]
    store.clear()
    assert store.blocks() == {}


def test_storage_that_keeps_failing_ends_the_run_with_its_own_words(llama, monkeypatch):
    def failing(self, path, value, **more):
        raise OSError("the disk is full")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", failing)
    with pytest.raises(OSError, match="the disk is full"):
        keep(Encoder(llama), TEXTS, Reading("m"), Store("memory://vectors/full"))


def test_vectors_that_float16_cannot_hold_are_refused(llama, tmp_path):
    class Large(Encoder):
        def encode_rows(self, rows, begin=None, progress=None):
            return super().encode_rows(rows, begin, progress) * 1e6

    with pytest.raises(blocks.EncodingError, match="do not fit into float16"):
        keep(Large(llama), TEXTS, Reading("m", normalize=False, dtype="float16"), Store(str(tmp_path)))
