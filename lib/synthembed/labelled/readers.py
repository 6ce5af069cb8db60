"""Files of labelled sets → records: the forms that public sets come in, read as streams.

passages    {query, positive_passages, negative_passages} (MIRACL, MrTyDi, Tevatron's copies), or DPR's
            {question, positive_ctxs, hard_negative_ctxs}; JSON lines or one JSON list
triplets    three columns: text, text that follows, text that contradicts (SimCSE's NLI)
pairs       two columns: question, answer
duplicates  two columns and a label: 1 where both ask the same (Quora)
collection  a corpus, queries and judgements in files of their own (BEIR, TREC, MS-MARCO, T2Ranking)

Any file may be .jsonl, .json, .csv, .tsv or .parquet, gzipped or not. What is not as its form says is
an error that names file, line and field.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthembed.ground.files import parquet_rows

csv.field_size_limit(2**31 - 1)

ID_KEYS = ("query_id", "_id", "id", "question_id", "qid")
DOCUMENT_ID_KEYS = ("_id", "docid", "id", "pid")
HEADERS = {"qid", "pid", "docid", "query-id", "query_id", "id", "_id"}  # first cell of a line of names
_SEPARATOR = re.compile(r"[\s,]*")
LONGEST = 4_000  # characters of a text; more than 512 tokens of any script that we train on
JSON_BLOCK = 1 << 20  # characters of a JSON list in memory


class ReadError(ValueError):
    """A file of a labelled set that cannot be read; the message names it, the place and the remedy."""


@dataclass(frozen=True, slots=True)
class Record:
    """A query with all texts that its set judges for it. ``id`` is the set's own, or a hash of the texts."""

    id: str
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    language: str = "en"
    target: str = ""  # language of the documents, if it is another


def text_id(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()


def records(form: str, files: list[Path], columns: tuple[str, ...], language: str) -> Iterator[Record]:
    """The records of every form but "collection", in the files' order."""
    for file in files:
        for place, row in rows(file):
            if form == "passages":
                yield _passages(row, place, language)
                continue
            texts = [_text(row, column, place) for column in columns[: 3 if form == "triplets" else 2]]
            if form == "duplicates" and str(_value(row, columns[2], place)) not in ("1", "True", "1.0"):
                continue
            yield Record(_id(row, text_id(*texts[:2])), texts[0], (texts[1],), tuple(texts[2:]), language)


def _passages(row: dict, place: str, language: str) -> Record:
    names = ("query", "positive_passages", "negative_passages")
    if "positive_ctxs" in row:
        names = ("question", "positive_ctxs", "hard_negative_ctxs")
    query = _text(row, names[0], place)
    positives, negatives = (_titled(_value(row, name, place), name, place) for name in names[1:])
    return Record(_id(row, text_id(query)), query, positives, negatives, language)


def _titled(passages, name: str, place: str) -> tuple[str, ...]:
    if not isinstance(passages, list) or not all(isinstance(p, dict) for p in passages):
        raise ReadError(f"{place}: {name} is not a list of passages with title and text")
    return tuple(titled(p.get("title"), _text(p, "text", f"{place}, {name}")) for p in passages)


def titled(title: str | None, text: str) -> str:
    """A passage as it is evaluated (Sec. 4.2): the title, a space, the text."""
    return f"{title.strip()} {text.strip()}" if title and title.strip() not in ("", "-") else text.strip()


def _id(row: dict, otherwise: str) -> str:
    return next((str(row[key]) for key in ID_KEYS if row.get(key) is not None), otherwise)


def _value(row: dict, name: str, place: str):
    if not isinstance(row, dict) or name not in row:
        there = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
        raise ReadError(f"{place}: no field {name!r}, there is {there}; is it a file of another form?")
    return row[name]


def _text(row: dict, name: str, place: str) -> str:
    value = _value(row, name, place)
    if not isinstance(value, str):
        raise ReadError(f"{place}: field {name!r} is {type(value).__name__}, not text")
    return value.strip()


# --- files → rows --------------------------------------------------------------------------------


def rows(file: Path) -> Iterator[tuple[str, dict]]:
    """(place, row) for the rows of a file; never more than a block of it is in memory."""
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind == ".parquet":
        yield from ((f"{file.name}, row {n}", row) for n, row in enumerate(parquet_rows(file), 1))
    elif kind in (".csv", ".tsv"):
        with _open(file) as lines:
            reader = csv.DictReader(lines, delimiter="," if kind == ".csv" else "\t")
            for row in reader:
                yield f"{file.name}, line {reader.line_num}", row
    elif kind in (".jsonl", ".json"):
        yield from _json_rows(file)
    else:
        raise ReadError(f"{file.name}: a file of a labelled set is .jsonl, .json, .csv, .tsv or .parquet")


def _open(file: Path):
    return (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8", newline="")


def _json_rows(file: Path) -> Iterator[tuple[str, dict]]:
    with _open(file) as source:
        line, number = source.read(1), 1
        if line == "[":
            yield from _json_list(source, file.name)
            return
        line += source.readline()
        while line:
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ReadError(f"{file.name}, line {number}: not JSON ({error.msg})") from None
                yield f"{file.name}, line {number}", row
            line, number = source.readline(), number + 1


def _json_list(source, name: str) -> Iterator[tuple[str, dict]]:
    """Items of a JSON list (DPR's are too large to be held) from an open file, after its "["."""
    decoder, buffer, start, number = json.JSONDecoder(), "", 0, 1
    while True:
        start = _SEPARATOR.match(buffer, start).end()
        try:
            item, start = decoder.raw_decode(buffer, start)
        except json.JSONDecodeError as error:
            if buffer.startswith("]", start):
                return
            buffer, start = buffer[start:], 0
            more = source.read(max(JSON_BLOCK, len(buffer)))  # doubling: a long item is scanned few times
            if not more:
                raise ReadError(f"{name}, item {number}: not JSON, or cut off ({error.msg})") from None
            buffer += more
            continue
        yield f"{name}, item {number}", item
        number += 1


# --- collections ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Collection:
    """Corpus, queries and judgements in files of their own; the corpus is streamed, never held."""

    corpus: list[Path]
    query_files: list[Path]
    qrels: list[Path]
    language: str = "en"

    def documents(self) -> Iterator[tuple[str, str]]:
        """(id, "title text") of every document."""
        for file in self.corpus:
            if _is_tsv(file):  # id, text, or id, url, title, body
                for cells in _cells(file, (2, 3, 4)):
                    yield cells[0], titled(cells[-2] if len(cells) > 2 else "", cells[-1])
            else:
                for place, row in rows(file):
                    text = titled(row.get("title"), _text(row, "text", place))
                    yield _first(row, DOCUMENT_ID_KEYS, place), text

    def queries(self) -> Iterator[tuple[str, str]]:
        """(id, text) of every query."""
        for file in self.query_files:
            if _is_tsv(file):
                yield from ((c[0], c[1].strip()) for c in _cells(file, (2,)))
            else:
                for place, row in rows(file):
                    key = "text" if "text" in row else "query"
                    yield _first(row, ID_KEYS, place), _text(row, key, place)

    def judgements(self) -> dict[str, dict[str, int]]:
        """Query id → {document id: grade}; a line without a grade is a positive."""
        found: dict[str, dict[str, int]] = {}
        for file in self.qrels:
            for query, document, grade in _judgement_lines(file):
                try:
                    found.setdefault(query, {})[document] = int(float(grade))
                except ValueError:
                    raise ReadError(
                        f"{file.name}, query {query}, document {document}: grade {grade!r} is no number"
                    ) from None
        return found


def _judgement_lines(file: Path) -> Iterator[tuple[str, str, str]]:
    if not _is_tsv(file):
        for place, row in rows(file):
            values = [str(_value(row, key, place)) for key in ("query-id", "corpus-id")]
            yield values[0], values[1], str(row.get("score", 1))
        return
    for cells in _cells(file, (2, 3, 4), separator=None):  # TREC's are separated by spaces or tabs
        yield cells[0], cells[2 if len(cells) == 4 else 1], cells[-1] if len(cells) > 2 else "1"


def _first(row: dict, keys: Iterable[str], place: str) -> str:
    for key in keys:
        if row.get(key) is not None:
            return str(row[key])
    raise ReadError(f"{place}: none of the fields {', '.join(keys)} among {', '.join(map(repr, row))}")


def _is_tsv(file: Path) -> bool:
    return Path(file.name.removesuffix(".gz")).suffix in (".tsv", ".txt")


def _cells(file: Path, counts: tuple[int, ...], separator: str | None = "\t") -> Iterator[list[str]]:
    """Cells of each line of a table without quoting; a first line of column names is passed over."""
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            cells = line.rstrip("\r\n").split(separator)
            if number == 1 and cells[0] in HEADERS:
                continue
            if len(cells) not in counts:
                if not line.strip():
                    continue
                wanted = " or ".join(map(str, counts))
                raise ReadError(f"{file.name}, line {number}: {len(cells)} columns, {wanted} were expected")
            yield cells
