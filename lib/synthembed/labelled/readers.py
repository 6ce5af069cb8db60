"""Files of labelled sets → records: the forms that public sets come in, read as streams.

passages    {query, positive_passages, negative_passages} (MIRACL, MrTyDi, Tevatron's copies), or DPR's
            {question, positive_ctxs, hard_negative_ctxs}; JSON lines or one JSON list
triplets    three columns: text, text that follows, text that contradicts (SimCSE's NLI)
pairs       two columns: question, answer
duplicates  two columns and a label: 1 where both ask the same (Quora)
collection  a corpus, queries and judgements in files of their own (BEIR, TREC, MS-MARCO, T2Ranking)

Any file may be .jsonl, .json, .csv, .tsv or .parquet, gzipped or not (``ground.data_files.table_rows``). What is not as
its form says is an error that names file, line and field.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from synthembed.ground.data_files.cell_values import (
    field_of,
    identifier,
    letters,
    plain,
    text_of,
    title_of,
    with_names,
)
from synthembed.ground.data_files.opener import ReadError, form_of, lines
from synthembed.ground.data_files.table_rows import rows

ID_KEYS = ("query_id", "_id", "id", "question_id", "qid")
DOCUMENT_ID_KEYS = ("_id", "docid", "id", "pid")
JUDGEMENT_KEYS = ("query-id", "corpus-id", "score")
PASSAGE_KEYS = ("query", "positive_passages", "negative_passages")
DPR_KEYS = ("question", "positive_ctxs", "hard_negative_ctxs")
HEADERS = {
    *map(letters, (*ID_KEYS, *DOCUMENT_ID_KEYS, *JUDGEMENT_KEYS[:2])),
    *("docno", "documentid", "passageid", "topic", "topicid", "text", "query", "title"),
}  # first cell of a line of names, in any spelling
LONGEST = 4_000  # characters of a text; more than 512 tokens of any script that we train on
GRADE = re.compile(r"\s*[+-]?\d{1,9}(?:\.0+)?\s*", re.ASCII)
YES, NO = {"1", "true", "1.0"}, {"0", "false", "0.0"}


@dataclass(frozen=True, slots=True)
class Record:
    """A query with all texts that its set judges for it. ``id`` is the set's own, or a hash of the texts."""

    id: str
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    language: str = "en"
    target: str = ""  # language of the documents, if it is another
    place: str = ""  # where it was read, for messages


def text_id(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=12).hexdigest()


def records(form: str, files: list[Path], columns: tuple[str, ...], language: str) -> Iterator[Record]:
    """The records of every form but "collection", in the files' order."""
    for file in files:
        for place, row in rows(file, columns, ID_KEYS if columns else (*ID_KEYS, *PASSAGE_KEYS, *DPR_KEYS)):
            if form == "passages":
                yield _passages(row, place, language)
                continue
            texts = [
                text_of(row, column, place).strip() for column in columns[: 3 if form == "triplets" else 2]
            ]
            if form == "duplicates" and not _same(field_of(row, columns[2], place), columns[2], place):
                continue
            record_id = _id(row, text_id(*texts[:2]), place)
            yield Record(record_id, texts[0], (texts[1],), tuple(texts[2:]), language, place=place)


def _same(label, name: str, place: str) -> bool:
    said = str(label).strip().lower()
    if said not in YES | NO:
        raise ReadError(
            f"{place}: field {name!r} is {label!r}, and neither 1 nor 0: correct it, or delete the row"
        )
    return said in YES


def _passages(row: dict, place: str, language: str) -> Record:
    names = DPR_KEYS if isinstance(row, dict) and DPR_KEYS[1] in row else PASSAGE_KEYS
    query = text_of(row, names[0], place).strip()
    positives, negatives = (_titled(field_of(row, name, place), name, place) for name in names[1:])
    return Record(_id(row, text_id(query), place), query, positives, negatives, language, place=place)


def _titled(passages, name: str, place: str) -> tuple[str, ...]:
    if passages is None:
        return ()
    if not isinstance(passages, list) or not all(isinstance(p, dict) for p in passages):
        raise ReadError(f"{place}: {name} is not a list of passages with title and text")
    place = f"{place}, {name}"
    passages = [with_names(p, ("title", "text"), place) for p in passages]
    return tuple(titled(title_of(p, place), text_of(p, "text", place)) for p in passages)


def titled(title: str, text: str) -> str:
    """A passage as it is evaluated (Sec. 4.2): the title, a space, the text."""
    return f"{title.strip()} {text.strip()}" if title.strip() not in ("", "-") else text.strip()


def _id(row: dict, otherwise: str, place: str) -> str:
    return next((identifier(row[key], place) for key in ID_KEYS if row.get(key) not in (None, "")), otherwise)


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
            if _is_plain(file):  # id, text, or id, url, title, body
                for place, cells in _cells(file, (2, 3, 4)):
                    yield identifier(cells[0], place), titled(cells[-2] if len(cells) > 2 else "", cells[-1])
            else:
                for place, row in rows(file, also=(*DOCUMENT_ID_KEYS, "title", "text")):
                    text = titled(title_of(row, place), text_of(row, "text", place))
                    yield _first(row, DOCUMENT_ID_KEYS, place), text

    def queries(self) -> Iterator[tuple[str, str]]:
        """(id, text) of every query."""
        for file in self.query_files:
            if _is_plain(file):
                yield from ((identifier(c[0], place), c[1].strip()) for place, c in _cells(file, (2,)))
            else:
                for place, row in rows(file, also=(*ID_KEYS, "text", "query")):
                    key = "text" if isinstance(row, dict) and "text" in row else "query"
                    yield _first(row, ID_KEYS, place), text_of(row, key, place).strip()

    def judgements(self) -> dict[str, dict[str, int]]:
        """Query id → {document id: grade}; in a file without grades every line is a positive.

        Raises ReadError where a grade is missing or no whole number, or two lines judge a document differently.
        """
        found: dict[str, dict[str, int]] = {}
        for file in self.qrels:
            for place, query, document, said in _judgement_lines(file):
                if not GRADE.fullmatch(said):
                    raise ReadError(
                        f"{place}, query {query}, document {document}: grade {said!r} is no whole number: write one, "
                        "0 for what does not answer, or delete the line"
                    )
                grade = int(said.partition(".")[0])
                if found.setdefault(query, {}).setdefault(document, grade) != grade:
                    raise ReadError(
                        f"{place}, query {query}, document {document}: grade {grade} here and "
                        f"{found[query][document]} before: which is right? Delete the other line"
                    )
        return found


def _judgement_lines(file: Path) -> Iterator[tuple[str, str, str, str]]:
    if not _is_plain(file):
        graded = None  # as the first row is
        for place, row in rows(file, also=JUDGEMENT_KEYS):
            values = [identifier(field_of(row, key, place), place) for key in JUDGEMENT_KEYS[:2]]
            if "score" not in row and len(row) > 2:  # a grade of 0 under another name would become a positive
                raise ReadError(
                    f"{place}: no field 'score' among {', '.join(map(repr, row))}: give the grade that name"
                )
            graded = "score" in row if graded is None else graded
            if graded != ("score" in row):
                raise ReadError(
                    f"{place}: {'no' if graded else 'a'} field 'score', unlike the rows before: give each row its grade"
                )
            yield place, *values, str(row.get("score", 1))
        return
    found = list(_cells(file, (2, 3, 4), separator=None))  # TREC's are separated by spaces or tabs
    _check_iteration(found)
    for place, cells in found:
        document = cells[2 if len(cells) == 4 else 1]
        yield (
            place,
            identifier(cells[0], place),
            identifier(document, place),
            cells[-1] if len(cells) > 2 else "1",
        )


def _check_iteration(found: list[tuple[str, list[str]]]) -> None:
    """Raise if what three columns have for a document is TREC's iteration, and for a grade the document."""
    seconds = {cells[1] for _, cells in found if len(cells) == 3}
    if seconds == {"Q0"} or (seconds == {"0"} and len(found) > 1):
        raise ReadError(
            f"{found[0][0]}: {seconds.pop()!r} is the document of every line: is it TREC's iteration, and the grade cut off? "
            "Write query, iteration, document, grade, or query, document, grade"
        )


def _first(row: dict, keys: Iterable[str], place: str) -> str:
    for key in keys:
        if row.get(key) is not None:
            return identifier(row[key], place)
    raise ReadError(f"{place}: none of the fields {', '.join(keys)} among {', '.join(map(repr, row))}")


def _is_plain(file: Path) -> bool:
    return form_of(file) in ("tsv", "txt")


def _cells(
    file: Path, counts: tuple[int, ...], separator: str | None = "\t"
) -> Iterator[tuple[str, list[str]]]:
    """(place, cells) of each line of a table without quoting; a first line of column names is passed over.

    MS-MARCO's and T2Ranking's tables have quotes as part of their texts. A table that is quoted as CSV is
    told by an id in quotes, or by a text in quotes that has its own doubled, and is refused.
    """
    width, began, names = 0, False, None
    for number, line in lines(file):
        place = f"{file.name}, line {number}"
        if not line.strip() and "\t" not in line:
            continue
        began, first = True, not began
        cells = line.split("\t") if separator or "\t" in line else re.split(" +", line.strip())
        if separator is None and line.startswith("#"):
            raise ReadError(f"{place}: begins with '#', as a comment does: delete it")
        if first and letters(cells[0]) in HEADERS:
            _check_names([plain(cell).lower() for cell in cells], separator is None, place)
            width, names = len(cells), cells
            continue
        if cells == names:
            raise ReadError(f"{place}: the line of names once more: were files put together? Delete it")
        if separator is None and any(" " in cell.strip() for cell in cells):
            raise ReadError(f"{place}: both spaces and tabs between its columns: use one of them")
        if len(cells) not in counts:
            wanted = " or ".join(map(str, counts))
            raise ReadError(f"{place}: {len(cells)} columns, {wanted} were expected")
        width = width or len(cells)
        if len(cells) != width:
            raise ReadError(
                f"{place}: {len(cells)} columns, the lines before have {width}: is it cut off, or is a tab in its text?"
            )
        if '"' in line and (_QUOTED_ID.fullmatch(cells[0]) or any(map(_QUOTED.fullmatch, cells))):
            raise ReadError(
                f"{place}: cells in quotes, as CSV has them, in a table that has none: save it as .csv or .jsonl"
            )
        yield place, cells


def _check_names(names: list[str], judges: bool, place: str) -> None:
    """Raise if the names of a table without quoting say that its columns stand in another order than is read."""
    if names[0] in ("text", "title") or (names[0] == "query" and not judges):
        raise ReadError(f"{place}: the first column is to be the id, not {names[0]!r}")
    if judges and re.match("corpus|doc|pid|passage", names[0]):
        raise ReadError(f"{place}: the first column is to be the query's id, not {names[0]!r}")
    third = judges and len(names) > 2  # where a grade may stand
    judged = names[1 if len(names) < 4 else 2] if judges and len(names) > 1 else ""
    if re.match("rel(evance)?$|score|grade|label|rating", judged) or (
        third and re.match("corpus|doc|pid", names[-1])
    ):
        raise ReadError(
            f"{place}: the columns are to be query, document, grade, or query, iteration, document, grade, not {', '.join(names)}"
        )
    if not judges and len(names) > 2 and names[-1] in ("title", "url"):
        raise ReadError(f"{place}: the last column is to be the text, not {names[-1]!r}")


_QUOTED_ID = re.compile(r'"[^"]+"')
_QUOTED = re.compile(r'"(?:[^"]|"")*[^"]""(?:[^"]|"")*"')
