"""Rows of data files that others wrote: JSON lines, a JSON list, CSV, Parquet.

Read whole or refused, as ``ground.data_files.opener`` has it: every error names the file, the row and what to do.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from synthembed.ground.data_files.cell_values import NARROW, field_of, letters, spellings, with_names
from synthembed.ground.data_files.opener import (
    TABLES,
    ReadError,
    blocks,
    form_of,
    lines,
    lines_with_ends,
    opened,
)

csv.field_size_limit(2**31 - 1)


def rows(path: Path, needed: Iterable[str] = (), also: Iterable[str] = ()) -> Iterator[tuple[str, dict]]:
    """(place, row) for each row of a table, in order; streams. A place is "name, line 7" and the like.

    NaN is None, as are nulls; a cell of CSV that is not there is "". Columns are to have the names
    ``needed``; of Parquet, these and ``also`` alone are read where any is needed. Both go by these names, however the
    file spells them ("Query_ID" is "query-id"). Raises ReadError where a name is missing or there twice, where a row
    is not whole, and where it holds half of a surrogate pair.
    """
    needed, wanted = tuple(needed), (*needed, *also)
    if _is_parquet(path):
        yield from _parquet_rows(path, needed, wanted)
    elif (form := form_of(path)) == "json":
        yield from ((place, with_names(row, wanted, place)) for place, row in _json_rows(path))
    elif form in ("csv", "tsv"):
        yield from _csv_rows(path, form, needed, wanted)
    else:
        raise ReadError(
            f"{path.name}: {path.suffix or 'a name without a suffix'} is no table; it is to be {TABLES}"
        )


def _is_parquet(path: Path) -> bool:
    with opened(path) as file:
        parquet = file.peek(4)[:4] == b"PAR1"
        if parquet and isinstance(getattr(file, "raw", None), gzip.GzipFile):
            raise ReadError(f"{path.name} is gzipped Parquet: run gunzip on it first")
    if not parquet and form_of(path) == "parquet":
        raise ReadError(f"{path.name} is not Parquet, whatever its name says: get it again")
    return parquet


def _parquet_rows(path: Path, needed: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        source = pyarrow.parquet.ParquetFile(path)
        names = source.schema_arrow.names
        _once(names, path, "")
        spelt = spellings(names, wanted, path.name)
        for name in needed:
            field_of({spelt.get(n, n): None for n in names}, name, path.name)
        read = [n for n in names if n in wanted or n in spelt] if needed else None
        floats = any("float" in str(t) or "double" in str(t) for t in source.schema_arrow.types)
        narrow = {f.name: NARROW[str(f.type)] for f in source.schema_arrow if str(f.type) in NARROW}
        for batch in source.iter_batches(4096, columns=read):
            for row in batch.to_pylist():
                number += 1
                row = _without_nan(row) if floats else row
                for name in narrow.keys() & row.keys():
                    row[name] = row[name] if row[name] is None else narrow[name](row[name])
                row = {spelt.get(n, n): value for n, value in row.items()} if spelt else row
                yield f"{path.name}, row {number}", row
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReadError(f"{path.name}, row {number + 1}: cut off or damaged ({said}): get it again") from None


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and value != value else value


def _once(names: Iterable[str], path: Path, place: str) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise ReadError(
                f"{path.name}{place}: the name {name!r} is there twice: which is meant? Rename one"
            )
        seen.add(name)


# --- JSON ----------------------------------------------------------------------------------------


def _object(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ReadError(f"the name {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _check(row, written: str, place: str) -> None:
    """Raise if a row has half of a surrogate pair (no UTF-8 can hold it), as only an escape can write it."""
    if _ESCAPED_HALF.search(written):
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ReadError(
                f"{place}: {half!r} is half a character (a surrogate without its other half, often of a cut emoji): "
                "delete it, or the row"
            ) from None


def _json_rows(path: Path) -> Iterator[tuple[str, dict]]:
    with opened(path) as file:
        start = file.peek(1).lstrip()[:1]
    if start == b"[":
        yield from _json_list(path)
        return
    for number, line in lines(path):
        if not line.strip():
            continue
        place = f"{path.name}, line {number}"
        try:
            row = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            refused = ReadError(f"{place}: not JSON, or cut off ({error.msg}): mend or delete the line")
            if number == 1 and line.rstrip()[-1] in "{[," and error.msg != "Extra data":
                yield from _json_over_lines(path, refused)
                return
            raise refused from None
        except (ValueError, RecursionError) as error:  # ours, or a number of thousands of digits
            raise ReadError(f"{place}: {error or 'nested too deeply'}") from None
        _check(row, line, place)
        yield place, row


def _json_over_lines(path: Path, none: ReadError) -> Iterator[tuple[str, dict]]:
    """Objects that are written over several lines, one behind the other; ``none`` is raised where there is none."""
    text, at = "".join(blocks(path)).strip(), 0
    for number in itertools.count(1):
        place = f"{path.name}, item {number}"
        try:
            row, end = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            cut = ReadError(f"{place}: not JSON, or cut off ({error.msg}): get it again")
            raise (cut if at else none) from None
        except (ValueError, RecursionError) as error:
            raise ReadError(f"{place}: {error or 'nested too deeply'}") from None
        _check(row, text[at:end], place)
        yield place, row
        if (at := _SPACE.match(text, end).end()) == len(text):
            return


_SPACE = re.compile(r"[ \t\r\n]*")


class _Window:
    """What is looked at of a JSON list: text from ``start`` on, of which more is read when it is wanted."""

    def __init__(self, path: Path):
        self.name, self.blocks = path.name, blocks(path)
        self.text, self.start, self.number = "", 0, 1

    def grow(self, why: str) -> None:
        """At least doubles what is there: a long item is scanned few times."""
        parts = [self.text[self.start :]]
        wanted = len(parts[0]) + 1
        while wanted > 0:
            if (block := next(self.blocks, None)) is None:
                break
            parts.append(block)
            wanted -= len(block)
        if not any(parts[1:]):
            raise ReadError(f"{self.name}, item {self.number}: not JSON, or cut off ({why}): get it again")
        self.text, self.start = "".join(parts), 0

    def sign(self) -> str:
        """The next character that is no space; it stays."""
        while True:
            self.start = _SPACE.match(self.text, self.start).end()
            if self.start < len(self.text):
                return self.text[self.start]
            self.grow("the list does not end")

    def item(self):
        while True:
            place = f"{self.name}, item {self.number}"
            try:
                found, end = _DECODER.raw_decode(self.text, self.start)
            except json.JSONDecodeError as error:
                self.grow(error.msg)
                continue
            except (ValueError, RecursionError) as error:
                raise ReadError(f"{place}: {error or 'nested too deeply'}") from None
            if end == len(self.text):  # 1 may go on as 12
                self.grow("the list does not end")
                continue
            _check(found, self.text[self.start : end], place)
            self.start = end
            return place, found


def _json_list(path: Path) -> Iterator[tuple[str, dict]]:
    """Items of a JSON list, which may be larger than memory (DPR's are)."""
    window = _Window(path)
    before = window.sign()  # the opening bracket
    window.start += 1
    if window.sign() == "]":
        before = "]"
    while before != "]":
        window.sign()
        yield window.item()
        window.number += 1
        before = window.sign()
        if before not in ",]":
            raise ReadError(
                f"{path.name}, item {window.number}: {before!r} where ',' should be: get it again"
            )
        window.start += before == ","
    rest = (window.text[window.start + 1 :] + "".join(window.blocks)).strip()
    if rest:
        raise ReadError(f"{path.name}: {rest[:20]!r} stands behind the end of the list: get it again")


# --- CSV -----------------------------------------------------------------------------------------

NULL = "\\N"  # as MySQL and PostgreSQL write what is missing
_LATE_QUOTE = re.compile(r'[^\S\t]+".*"\s*', re.DOTALL)
_SEPARATORS = {"csv": ",;\t|", "tsv": "\t,;|"}  # the first one unless the line of names has more of another


def _csv_rows(
    path: Path, form: str, needed: tuple[str, ...], wanted: tuple[str, ...]
) -> Iterator[tuple[str, dict]]:
    """Rows of a table with a line of names; a cell may have lines of its own between quotes."""
    source = _Ends(lines_with_ends(path))
    first = next(source)
    skipped = 0
    if "\r" in first.removesuffix("\n").removesuffix("\r") and '"' not in first:
        raise ReadError(
            f"{path.name}, line 1: lines seem to end in \\r alone, as on old Macs: tr '\\r' '\\n' < '{path.name}' > new file"
        )
    if re.fullmatch(r"sep=.\r?\n", first):  # Excel's own way to say it
        separator, first, skipped = first[4], next(source, ""), 1
    else:
        separator = _separator(first, _SEPARATORS[form], needed)
    reader = csv.reader(itertools.chain([first], source), delimiter=separator, strict=True)
    names, begin, blank = None, 1, ""
    try:
        for cells in reader:
            place, begin = f"{path.name}, line {begin + skipped}", reader.line_num + 1
            if not cells:
                blank = blank or place
                source.taken.clear()
                continue
            if cells[0].startswith("\ufeff"):
                raise ReadError(
                    f"{place}: a second byte order mark (U+FEFF): were files put together? Delete it"
                )
            if names is None:
                names = [cell.strip() for cell in cells]
                _once(filter(None, names), path, ", line 1")
                spelt = spellings(filter(None, names), wanted, place)
                named = [spelt.get(name, name) for name in names]
                for name in needed:
                    field_of(dict.fromkeys(named), name, place)
                source.usual, blank = source.end, ""
                source.taken.clear()
                continue
            _check_cells(cells, names, separator, place, blank)
            if any(map(_LATE_QUOTE.fullmatch, cells)):
                _check_quotes(cells, source.taken, separator, place)
            source.taken.clear()
            if len(cells) != len(names):
                raise ReadError(
                    f"{place}: {len(cells)} cells, {len(names)} names ({', '.join(map(repr, names))}): is it cut off, "
                    f"or is a cell with {separator!r} in it not quoted?"
                )
            if source.end not in (source.usual, "") and not source.quoted:
                raise ReadError(
                    f"{place}: ends in {source.end!r}, the line of names in {source.usual!r}: is the last cell to end "
                    "in \\r? Give all lines the same end (dos2unix)"
                )
            yield (
                place,
                {n: None if c == NULL else c for n, c in zip(named, cells, strict=True) if n},
            )
    except csv.Error as error:
        raise ReadError(
            f"{path.name}, line {begin + skipped}: {error}: a cell that begins with a quote must end with one, and its own "
            "quotes be doubled"
        ) from None


def _check_cells(cells: list[str], names: list[str], separator: str, place: str, blank: str) -> None:
    """Raise if a row may be read in two ways; ``blank`` is the place of a blank line before it, if any."""
    if blank and len(names) == 1:  # some write an empty cell so, and vector n is to be of row n
        raise ReadError(
            f'{blank}: a blank line in a table of one column: write "" for an empty text, or delete it'
        )
    if len(names) > 1 and cells[0].strip() == names[0] and [cell.strip() for cell in cells] == names:
        raise ReadError(f"{place}: the line of names once more: were files put together? Delete it")
    if separator != "\t" or not any("\n" in cell for cell in cells):
        return
    lines_of = "\t".join(cells).split("\n")
    if all(line.count("\t") == len(names) - 1 for line in lines_of):
        raise ReadError(
            f"{place}: a quote opens a cell here and closes it {len(lines_of) - 1} lines on, and each of these lines is a row "
            "too: are the quotes part of the texts? Save it as .csv or .jsonl"
        )


def _check_quotes(cells: list[str], lines: list[str], separator: str, place: str) -> None:
    """Raise if a blank stands between a separator and a quote, which is then no quote but part of the text."""
    if next(csv.reader(lines, delimiter=separator, skipinitialspace=True), cells) != cells:
        raise ReadError(
            f"{place}: a blank before a quote, which makes it part of the text: delete such blanks, or quote the whole cell"
        )


def _separator(line: str, allowed: str, columns: tuple[str, ...]) -> str:
    """The separator by which a line of names has the columns that are wanted, or most names."""

    def fits(separator: str) -> tuple[int, int]:
        names = list(map(letters, next(csv.reader([line], delimiter=separator), [])))
        return sum(letters(column) in names for column in columns), len(names)

    return max(allowed, key=fits)


class _Ends:
    """Lines, and how the last one ended; ``quoted`` if its last cell was; ``taken`` are those of a row."""

    def __init__(self, lines: Iterator[str]):
        self.lines, self.end, self.usual, self.quoted = lines, "", "", False
        self.taken: list[str] = []

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.taken.append(line)
        self.end = "\r\n" if line.endswith("\r\n") else "\n" if line.endswith("\n") else ""
        self.quoted = line.endswith('"' + self.end)
        return line
