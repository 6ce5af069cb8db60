"""Vectors of whole corpora: the same as in memory, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from synthembed.model import vector_files
from synthembed.model.encoder import Encoder

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


RUN = """
import sys
from pathlib import Path
from tiny_models import byte_tokenizer, tiny_model
from synthembed.model import vector_files
from synthembed.model.backbone import Backbone
from synthembed.model.encoder import Encoder
from synthembed.model.tokens import TokenContract
from test_vectors import TEXTS
vector_files.BLOCK = 16
llama = Backbone(tiny_model("llama"), TokenContract.of(byte_tokenizer("llama")), {})
vector_files.encode_to(Encoder(llama), TEXTS * 20, Path(sys.argv[1]), dtype="float32")
"""


def test_killed_runs_end_with_the_same_file(llama, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    path, state = tmp_path / "v.npy", tmp_path / "v.npy.state.json"
    for rows in (64, 1_024, 2_500):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(path)], stdout=subprocess.DEVNULL)
        while process.poll() is None and (not state.exists() or json.loads(state.read_text())["rows"] < rows):
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run([sys.executable, "-c", RUN, str(path)], capture_output=True).returncode == 0
    assert np.allclose(np.load(path), Encoder(llama).encode(TEXTS * 20), atol=2e-6)


def test_texts_are_read_from_lines_and_fields(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    assert list(vector_files.read_texts(tmp_path / "a.txt")) == ["one", "", "two"]
    (tmp_path / "b.jsonl").write_text('{"text": "one", "title": "T"}\n{"text": "two"}\n{"text": \n')
    lines = vector_files.read_texts(tmp_path / "b.jsonl")
    assert [next(lines), next(lines)] == ["T one", "two"]
    with pytest.raises(vector_files.VectorsError, match=r"b\.jsonl, line 3: no text under 'text'"):
        next(lines)
