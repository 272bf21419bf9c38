"""Rows of a CSV or TSV file with the physical line that each begins in; a row that is no row is set aside, not lost.

A field in quotes may hold separators and line breaks. A quote that opens a field by mistake would swallow every row up
to the next quote in the file; it is told from a true one by what follows (``_fault``), and costs its own row only.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from esmerge.core.errors import InputError
from esmerge.core.text_files import decode_file

SEPARATORS = {".tsv": "\t", ".tab": "\t", ".txt": "\t"}  # by ending, before one of compression; a comma for any other
OTHERS = (",", "\t", ";", "|")  # tried in this order where the header lacks columns under the ending's separator
MOST_MALFORMED = 0.05  # of the rows; a file with a larger share of malformed ones is no table
NOT_CLOSED = "a quote opens a field and is not closed as one: double it, or remove it"
WHOLE = re.compile(r'"(?:[^"]|"")*"')  # a field between quotes
DECLARED = "sep="  # Excel's first line that names the separator

csv.field_size_limit(sys.maxsize)  # Python's own is 131,072 letters: long enough for titin, not for every column


class Record(NamedTuple):
    """A row: the line it begins in (the file's first is 1), and its fields, or why it has none."""

    line: int
    fields: tuple[str, ...]
    fault: str | None = None


@dataclass(frozen=True)
class Records:
    """A table as text; blanks around the header's names are removed, those in fields are not."""

    header: tuple[str, ...]
    rows: list[Record]


def read_records(path: Path, columns: Sequence[str]) -> Records:
    """All rows of a table that has these columns.

    Every physical line is in exactly one row; blank lines are rows without fields, except at the end of the file.

    Args:
        path: a text file with a header line, compressed or not; a comma separates fields, or a tab where the file's
            ending says so. If the header lacks the columns that way, another separator that gives them is taken.

    Raises:
        InputError: the file is not text, has no rows, lacks a column or has it twice, or too many rows are malformed.
    """
    lines = list(io.StringIO(decode_file(path), newline=""))
    while lines and not lines[-1].strip():
        lines.pop()
    start = int(bool(lines) and lines[0].lower().startswith(DECLARED))
    header, separator, first = _header(lines, start, path, columns)
    if first == len(lines):
        raise InputError(f"{path} has a header but no rows")
    rows = _records(lines, first, separator, len(header))
    _check_share(rows, path, header, separator)
    return Records(header, rows)


def _header(lines: Sequence[str], start: int, path: Path, columns: Sequence[str]) -> tuple[tuple[str, ...], str, int]:
    """The header's names, the separator, and the index of the line after it."""
    if start == len(lines):
        raise InputError(f"{path} cannot be read as a table: it is empty")
    preferred = lines[0].rstrip("\r\n")[len(DECLARED) :] if start else separator_of(path)
    headers = {mark: _first(lines, start, mark) for mark in dict.fromkeys((preferred, *OTHERS)) if len(mark) == 1}
    fitting = [mark for mark, (names, _) in headers.items() if set(columns) <= set(names)]
    separator = fitting[0] if fitting else next(iter(headers))
    header, after = headers[separator]
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}: correct the table or the "
            "benchmark's columns setting"
        )
    twice = [column for column in columns if header.count(column) > 1]
    if twice:
        raise InputError(
            f"{path} has the column {twice[0]} {header.count(twice[0])} times: rename all but the right one"
        )
    return header, separator, after


def separator_of(path: Path) -> str:
    """What separates the fields of a file with this name: a tab or a comma."""
    return next((SEPARATORS[ending] for ending in map(str.lower, path.suffixes[-2:]) if ending in SEPARATORS), ",")


def _first(lines: Sequence[str], start: int, separator: str) -> tuple[tuple[str, ...], int]:
    reader = csv.reader(islice(lines, start, None), delimiter=separator, strict=True)
    try:
        return tuple(name.strip() for name in next(reader)), start + reader.line_num
    except csv.Error:  # as another separator's header may be; if it is not, the error shows what stands there
        return (lines[start].strip(),), start + 1


def _records(lines: Sequence[str], first: int, separator: str, width: int) -> list[Record]:
    """Rows from the line with index ``first`` on; after a quote that opened by mistake, reading goes on in the line
    below it."""
    rows = _all_at_once(lines, first, separator)
    if len(rows) == len(lines) - first and all(len(fields) == width for fields in rows):  # one line each, all sound
        return [Record(line, tuple(fields)) for line, fields in enumerate(rows, start=first + 1)]
    records: list[Record] = []
    while first < len(lines):
        pairs = list(_until_stray_quote(lines, first, separator, width))
        records += [record for record, _ in pairs]
        first = pairs[-1][1]
    return records


def _all_at_once(lines: Sequence[str], first: int, separator: str) -> list[list[str]]:
    """The rows of a table without faults, several times as fast as row by row; none where a quote is malformed."""
    try:
        return list(csv.reader(islice(lines, first, None), delimiter=separator, strict=True))
    except csv.Error:
        return []


def _until_stray_quote(lines: Sequence[str], first: int, separator: str, width: int) -> Iterator[tuple[Record, int]]:
    """Each row with the index of the line after it; ends after the first row that begins with a stray quote."""
    reader = csv.reader(islice(lines, first, None), delimiter=separator, strict=True)
    begin = first
    while begin < len(lines):
        try:
            fields = next(reader)
        except csv.Error:
            yield Record(begin + 1, (), NOT_CLOSED), begin + 1
            return
        end = first + reader.line_num
        fault = None
        if len(fields) != width or end > begin + 1:  # few rows, so that a sound table is read fast
            fault = _fault(fields, lines[begin:end], separator, width)
        if fault and end > begin + 1:
            yield Record(begin + 1, (), fault), begin + 1
            return
        yield Record(begin + 1, tuple(fields), fault), end
        begin = end


def _fault(fields: Sequence[str], lines: Sequence[str], separator: str, width: int) -> str | None:
    """Why these lines are not one row of ``width`` fields; None for a sound or blank one."""
    if not any(line.strip() for line in lines):
        return None
    if len(lines) > 1 and _holds_rows(lines, separator, width):
        return (
            f"a quote opens a field and closes {len(lines) - 1} lines further down, and what lies between holds rows "
            "by themselves: double the quote, or remove it"
        )
    if len(fields) != width:
        hint = f"quote fields with {separator!r}" if len(fields) > width else "is the row cut off?"
        return f"has {len(fields)} fields, but the header {width}: {hint}"
    return None


def _holds_rows(lines: Sequence[str], separator: str, width: int) -> bool:
    """Whether a quote that opens in the first line swallowed rows: a line after it is a row without a quote out of
    place, or each line is a row once the quotes that have no partner in it count as letters."""
    fields = [_fields_of_line(line, separator) for line in lines]
    below = (fields_of_line for fields_of_line in fields[1:] if any(fields_of_line))
    return any(len(texts) == width and all(map(_is_whole, texts)) for texts in below) or all(
        len(texts) == width for texts in fields
    )


def _fields_of_line(line: str, separator: str) -> list[str]:
    """The fields of a line by itself, in their quotes; a quote that is not closed before a separator is a letter."""
    text, fields, start = line.rstrip("\r\n"), list[str](), 0
    while True:
        match = _field(separator).match(text, start)
        fields.append(match.group() if match else "")
        start += len(fields[-1]) + 1
        if start > len(text):
            return fields


@lru_cache(maxsize=8)
def _field(separator: str) -> re.Pattern[str]:
    mark = re.escape(separator)
    return re.compile(rf"{WHOLE.pattern}(?={mark}|$)|[^{mark}]*")


def _is_whole(field: str) -> bool:
    return '"' not in field or WHOLE.fullmatch(field) is not None


def _check_share(rows: Sequence[Record], path: Path, header: Sequence[str], separator: str) -> None:
    faults = [row for row in rows if row.fault]
    if len(faults) > MOST_MALFORMED * len(rows):
        reason = faults[0].fault or ""
        raise InputError(
            f"{path} cannot be read as a table: {len(faults)} of {len(rows)} rows are malformed, the first in line "
            f"{faults[0].line}: {reason}. Its header is {', '.join(header)}, separated by {separator!r}"
        )
