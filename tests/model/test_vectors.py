"""Vectors of whole corpora: the same as in memory, whatever happens on the way."""

import json
import signal
import time

import numpy as np
import pandas as pd
import pytest
from forked_processes import processes
from synthembed.ground.data_files.opener import ReadError
from synthembed.model import vector_files
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder, EncodingError
from synthembed.model.tokens import TokenContract
from tiny_models import byte_tokenizer, tiny_model

TEXTS = [f"text {n % 37} " + "word " * (n % 11) for n in range(200)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(vector_files, "BLOCK", 32)


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-6), ("float16", 1e-3)])
def test_the_file_holds_the_vectors_in_order(llama, tmp_path, dtype, near):
    path, encoder = tmp_path / "v.npy", Encoder(llama)
    assert vector_files.encode_to(encoder, iter(TEXTS), path, "the task", dtype=dtype) == len(TEXTS)
    found = np.load(path, mmap_mode="r")
    assert found.dtype == dtype and found.shape == (200, encoder.dim)
    assert np.allclose(found, encoder.encode(TEXTS, "the task"), atol=near)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.npy"]


def test_numbers_that_do_not_fit_are_not_written(llama, tmp_path, monkeypatch):
    encoder, encode_rows = Encoder(llama), Encoder.encode_rows
    monkeypatch.setattr(Encoder, "encode_rows", lambda *args: encode_rows(*args) * 1e6)
    with pytest.raises(vector_files.VectorsError, match=r"numbers up to .* do not fit into float16"):
        vector_files.encode_to(encoder, TEXTS, tmp_path / "v.npy", normalize=False)
    assert vector_files.encode_to(encoder, TEXTS, tmp_path / "w.npy", normalize=False, dtype="float32") == 200


def test_no_text_gives_an_empty_array(llama, tmp_path):
    assert vector_files.encode_to(Encoder(llama), [], tmp_path / "v.npy") == 0
    assert np.load(tmp_path / "v.npy").shape == (0, 32)


def interrupted(llama, tmp_path, after: int):
    """A run whose source of texts breaks off; its finished blocks and a torn one are on disk."""

    def breaking():
        yield from TEXTS[:after]
        raise KeyboardInterrupt

    path = tmp_path / "v.npy"
    with pytest.raises(KeyboardInterrupt):
        vector_files.encode_to(Encoder(llama), breaking(), path, dtype="float32", identity="m")
    with open(path, "ab") as file:
        file.write(b"torn")
    return path


def test_an_interrupted_run_goes_on(llama, tmp_path, capsys):
    path = interrupted(llama, tmp_path, 150)
    rows = json.loads((tmp_path / "v.npy.state.json").read_text())["rows"]
    assert 0 < rows <= 150
    vector_files.encode_to(Encoder(llama), TEXTS, path, dtype="float32", identity="m")
    assert f"going on after {rows:,} vectors" in capsys.readouterr().out
    assert np.allclose(np.load(path), Encoder(llama).encode(TEXTS), atol=1e-6)


def test_other_texts_settings_or_files_are_never_mixed(llama, tmp_path):
    path = interrupted(llama, tmp_path, 150)
    go_on = {"dtype": "float32", "identity": "m"}
    with pytest.raises(vector_files.VectorsError, match="vectors of other texts"):
        vector_files.encode_to(Encoder(llama), ["another", *TEXTS[1:]], path, **go_on)
    with pytest.raises(vector_files.VectorsError, match=r"vectors of other texts .* 5 were read"):
        vector_files.encode_to(Encoder(llama), TEXTS[:5], path, **go_on)
    with pytest.raises(vector_files.VectorsError, match="begun with other settings"):
        vector_files.encode_to(Encoder(llama), TEXTS, path, **go_on | {"identity": "n"})
    vector_files.encode_to(Encoder(llama), TEXTS, path, **go_on)
    with pytest.raises(vector_files.VectorsError, match="is there already"):
        vector_files.encode_to(Encoder(llama), TEXTS, path, **go_on)


def run_in_small_blocks(path) -> None:
    """One run of all texts, in a process of its own."""
    vector_files.BLOCK = 16
    llama = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
    vector_files.encode_to(Encoder(llama), TEXTS * 20, path, dtype="float32")


def test_killed_runs_end_with_the_same_file(llama, tmp_path):
    path, state = tmp_path / "v.npy", tmp_path / "v.npy.state.json"

    def started():
        process = processes().Process(target=run_in_small_blocks, args=(path,))
        process.start()
        return process

    for rows in (64, 1_024, 2_500):
        process = started()
        while process.is_alive() and (not state.exists() or json.loads(state.read_text())["rows"] < rows):
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = started()
    process.join()
    assert process.exitcode == 0
    assert np.allclose(np.load(path), Encoder(llama).encode(TEXTS * 20), atol=2e-6)


def test_texts_are_read_from_lines_and_fields(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    assert list(vector_files.read_texts(tmp_path / "a.txt")) == ["one", "", "two"]
    (tmp_path / "b.jsonl").write_text('{"text": "one", "title": "T"}\n{"text": "two"}\n{"text": \n')
    lines = vector_files.read_texts(tmp_path / "b.jsonl")
    assert [next(lines), next(lines)] == ["T one", "two"]
    with pytest.raises(ReadError, match=r"b\.jsonl, line 3: not JSON, or cut off"):
        next(lines)


ROW = {"_id": "7", "title": "Bees", "text": "bees fly home"}


@pytest.mark.parametrize(
    "name", ["a.ndjson", "a.JSONL", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz"]
)
def test_a_table_is_read_as_one(tmp_path, name):
    frame = pd.DataFrame([ROW])
    if name == "a.parquet":
        frame.to_parquet(tmp_path / name)
    elif "json" in name.lower():
        frame.to_json(tmp_path / name, orient="records", lines=name != "a.json")
    else:
        frame.to_csv(tmp_path / name, sep="," if name == "a.csv" else "\t", index=False)
    assert list(vector_files.read_texts(tmp_path / name)) == ["Bees bees fly home"]
    assert list(vector_files.read_texts(tmp_path / name, "title")) == ["Bees"]
    with pytest.raises(ReadError, match=rf"{name}.*no field 'body', there is '_id', 'title', 'text'"):
        list(vector_files.read_texts(tmp_path / name, "body"))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", b'{"text": "bees"}\n', "JSON in a file of plain lines"), ("a.txt", b'[{"text": "bees"}]\n', "JSON in a file of plain lines"),
        ("a.txt", b'[\n {"text": "bees"}\n]\n', "JSON in a file of plain lines"), ("a.docx", b"bees\n", "is no table"),
        ("a.tsv", b"7\tbees fly home\n", "no field 'text'"), ("a.txt", b"", "is empty"),
        ("a.txt", b"<!DOCTYPE html>\n<html>404</html>\n", "line 1: a page"), ("a.txt", b'<?xml version="1.0"?>\n<Error/>\n', "line 1: a page"),
        ("a.csv", b"_id,text\n7\n", "1 cells, 2 names"),
    ],
)  # fmt: skip
def test_what_is_neither_lines_nor_a_table_is_refused(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ReadError, match=said):
        list(vector_files.read_texts(tmp_path / name))


def test_line_n_is_vector_n_whatever_stands_in_it(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\u2028still\x0bone\x85\r\ntwo\x0c\rtwo\n\nfour".encode())
    assert list(vector_files.read_texts(tmp_path / "a.txt")) == [
        "one\u2028still\x0bone\x85",
        "two\x0c\rtwo",
        "",
        "four",
    ]


def test_a_run_whose_file_breaks_off_at_once_can_be_begun_again(llama, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": null}\n')
    with pytest.raises(ReadError, match="line 2"):
        vector_files.encode_to(
            Encoder(llama), vector_files.read_texts(tmp_path / "a.jsonl"), tmp_path / "v.npy"
        )
    assert vector_files.encode_to(Encoder(llama), ["one"], tmp_path / "v.npy", dtype="float32") == 1


def test_cut_texts_are_counted_and_a_long_instruction_is_refused(llama):
    encoder = Encoder(llama, max_length=32)
    llama.contract.read.clear()
    encoder.encode(["short", "long " * 50, "long " * 60])
    assert llama.contract.read == {"texts": 3, "cut": 2, "unknown": 0}
    encoder.encode(["short", "long " * 50, "long " * 60])  # from the cache
    assert llama.contract.read == {"texts": 6, "cut": 4, "unknown": 0}
    with pytest.raises(EncodingError, match="instruction is as long as max_length, 32 tokens"):
        encoder.encode(["short"], "find " * 20)
    with pytest.raises(RuntimeError, match=r"text 2, .*half a character"):
        encoder.encode(["sun", "sun \ud83d"])
