"""Whole corpora: texts stream in, vectors stream into a memory-mapped file, and a killed run goes on.

The file is a plain ``.npy`` that ``numpy.load(path, mmap_mode="r")`` opens. Beside it, while the run
lasts, ``<name>.state.json`` says how many vectors are there for certain, and a hash of their texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from torch.nn import functional as F

from synthembed.ground.console import Progress
from synthembed.ground.data_files.cell_values import text_of, title_of
from synthembed.ground.data_files.opener import TABLES, ReadError, form_of, lines
from synthembed.ground.data_files.table_rows import rows
from synthembed.ground.files import write_json
from synthembed.model.cpu.rate import rate_for
from synthembed.model.encoder import Encoder

HEADER = 128  # bytes of a .npy header, padded so that the count of rows can be written at the end
OTHERS = (".npz", ".pt", ".safetensors", ".h5", ".arrow", ".gz")  # what others keep vectors in
BLOCK = 16_384  # texts between two notes of progress on disk; sorted by length within


class VectorsError(RuntimeError):
    """Vectors that cannot be written or gone on with; the message says what to do."""


def encode_to(
    encoder: Encoder,
    texts: Iterable[str],
    path: Path,
    instruction: str = "",
    normalize: bool | None = None,
    dtype: str = "float16",
    total: int | None = None,
    identity: str = "",
) -> int:
    """Write the vector of each text, (count, dim) in ``dtype``, to ``path``; returns the count.

    Memory is bounded by a block of texts. If an earlier call was killed, its finished blocks are kept:
    ``texts`` must begin with the same texts (their hash is compared) and ``identity``, which names the
    model, must be the same, or VectorsError is raised.
    """
    if np.dtype(dtype).kind != "f":
        raise VectorsError(
            f"vectors are written as float16 or float32, not {dtype}: whole numbers need a scale, for which .npy has no place"
        )
    normalize = encoder.backbone.recipe.normalize if normalize is None else normalize
    state_path = path.with_name(path.name + ".state.json")
    made_from = [identity, instruction, normalize, dtype, encoder.dim, encoder.max_length, encoder.pooling]
    state = _resumed(state_path, path, made_from)
    digest, waiting = hashlib.sha256(), iter(texts)
    skipped = _skip(waiting, state["rows"], digest)
    if digest.hexdigest() != state["texts"] and state["rows"]:
        raise VectorsError(
            f"{path.name} holds {state['rows']:,} vectors of other texts (of these, {skipped:,} were read): "
            f"delete {path.name} and {state_path.name} to begin anew"
        )
    report = _Report(encoder, skipped, total)
    if not skipped:  # a run that breaks off in its first block can be begun again, too
        write_json(state_path, {"rows": 0, "texts": "", "made_from": made_from})
    with open(path, "r+b" if path.exists() else "w+b") as file, ThreadPoolExecutor(1) as ahead:
        file.truncate(HEADER + skipped * encoder.dim * np.dtype(dtype).itemsize)
        file.seek(0, os.SEEK_END)
        begin, done = encoder.begin(instruction), skipped
        prepared = ahead.submit(_prepare, encoder, waiting, instruction)
        while (block := prepared.result())[0]:
            prepared = ahead.submit(_prepare, encoder, waiting, instruction)  # while the model works
            vectors = encoder.encode_rows(block[1], begin)
            vectors = F.normalize(vectors, dim=-1) if normalize else vectors
            numbers = vectors.numpy()[block[2]].astype(dtype)
            if not np.isfinite(numbers).all():  # the encoder's are: what overflows is float16
                raise VectorsError(
                    f"numbers up to {float(vectors.abs().max()):.3g} do not fit into {dtype}: write vectors of "
                    "length 1, or float32"
                )
            file.write(numbers.tobytes())
            done += len(block[0])
            _write_header(file, done, encoder.dim, dtype)
            for text in block[0]:
                _add(digest, text)
            write_json(state_path, {"rows": done, "texts": digest.hexdigest(), "made_from": made_from})
            report(done, sum(map(len, block[1])))
        _write_header(file, done, encoder.dim, dtype)
    state_path.unlink(missing_ok=True)
    return done


def check_place(path: Path) -> None:
    """Raise if vectors cannot be written to ``path``, or would lie under a name that promises another form."""
    if form_of(path) or path.suffix.lower() in OTHERS:
        raise VectorsError(f"{path.name}: vectors are written as .npy: name the file so")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent}: make it first")


def read_texts(path: Path, field: str = "text") -> Iterator[str]:
    """Texts of a file, in order, of which vector n is the n-th: the lines of a .txt, or ``field`` of each row
    of a table (.jsonl, .ndjson, .json, .csv, .tsv or .parquet, gzipped or not); streams.

    A row's title goes before its text, as retrieval sets are read. Raises ReadError on what is neither.
    """
    if form_of(path) == "txt" or not Path(path.name.lower().removesuffix(".gz")).suffix:
        for number, line in lines(path):
            if number == 1 and _is_json(line):
                raise ReadError(f"{path.name}, line 1: JSON in a file of plain lines: name it .jsonl")
            if number == 1 and re.match(r"\s*<(!doctype|html|\?xml)\b", line, re.IGNORECASE):
                raise ReadError(
                    f"{path.name}, line 1: a page ({line[:40]!r}), often a server's error in the place of the file: "
                    "get it again, or save its text"
                )
            yield line
        return
    if not form_of(path):
        raise ReadError(
            f"{path.name}: {path.suffix} is no table and no .txt: name it after what it is, .txt, {TABLES}"
        )
    for place, row in rows(path, (field,), ("title",)):
        text, title = text_of(row, field, place), "" if field.lower() == "title" else title_of(row, place)
        yield f"{title} {text}".strip() if title else text


def _is_json(line: str) -> bool:
    """Whether a first line begins rows of JSON: an object, a list of objects, or the bracket of one alone."""
    if line.strip() in ("{", "[", "[{"):
        return True
    try:
        found = json.loads(line) if line.lstrip()[:1] in ("{", "[") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found[0] if isinstance(found, list) and found else found, dict)


def count_of(path: Path) -> int | None:
    """How many texts a file has about, where that can be told without reading it as such."""
    if form_of(path) not in ("txt", "json") or path.suffix.lower() == ".gz":
        return None
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) or None


def _resumed(state_path: Path, path: Path, made_from: list) -> dict:
    if not state_path.exists():
        if path.exists():
            raise VectorsError(f"{path.name} is there already: delete it, or choose another name")
        return {"rows": 0, "texts": ""}
    state = json.loads(state_path.read_text(encoding="utf-8"))
    if state["made_from"] != made_from and state["rows"]:
        raise VectorsError(
            f"{path.name} was begun with other settings ({state['made_from']}, now {made_from}): "
            f"delete {path.name} and {state_path.name} to begin anew"
        )
    return state


def _skip(waiting: Iterator[str], rows: int, digest) -> int:
    """Pass over the texts whose vectors are there; returns how many there were."""
    skipped = 0
    for text in islice(waiting, rows):
        _add(digest, text)
        skipped += 1
    return skipped


def _add(digest, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    digest.update(len(data).to_bytes(8, "little") + data)


def _prepare(encoder: Encoder, waiting: Iterator[str], instruction: str):
    """The next block: its texts, the ids of the distinct ones, and where each text's vector is."""
    texts = list(islice(waiting, BLOCK))
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    rows = encoder.rows(list(place), instruction) if texts else []
    return texts, rows, [place[t] for t in texts]


def _write_header(file, rows: int, dim: int, dtype: str) -> None:
    """A version 1.0 .npy header of fixed size for (rows, dim); the file is on disk afterwards."""
    said = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    head = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    file.seek(0)
    file.write(head + said.encode().ljust(HEADER - 11) + b"\n")
    file.seek(0, os.SEEK_END)
    file.flush()
    os.fsync(file.fileno())


class _Report:
    """Texts and tokens a second, MFU (2N a token) and the time that is left, as plain lines."""

    def __init__(self, encoder: Encoder, skipped: int, total: int | None):
        self.rate = rate_for(encoder.backbone.model)
        self.size = encoder.backbone.matrix_parameters()
        self.skipped, self.total, self.tokens = skipped, total, 0
        self.start = time.monotonic()
        self.progress = Progress("encoding", "texts")
        if skipped:
            print(f"going on after {skipped:,} vectors", flush=True)

    def __call__(self, done: int, tokens: int) -> None:
        self.tokens += tokens
        speed = self.tokens / (time.monotonic() - self.start)
        note = f"{speed:,.0f} tokens/s, MFU {2 * self.size * speed / self.rate:.2f}"
        self.progress(done - self.skipped, (self.total or done) - self.skipped, note)
