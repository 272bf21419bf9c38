"""Tables on disk: read with a typed schema and checked row by row; a refused row is listed with its reason."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from esmerge.core.errors import ConfigError, InputError, shown
from esmerge.core.paths import user_path
from esmerge.core.prompts import Reject
from esmerge.data.records import read_records

if TYPE_CHECKING:
    from datasets import Dataset

SHOWN = 5  # reasons that an error quotes
FAULT = "malformed row"  # a column of why; no table's own, since its rows would have to be malformed as well
UNREAD = "no number in "  # with a column of numbers: a column of what stands there in place of one
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


_LOOKED_UP: list[Path] = []


@contextmanager
def recorded_lookups() -> Iterator[list[Path]]:
    """Yields a list that holds, when the block ends, every file that ``note_lookup`` was told of in it."""
    paths: list[Path] = []
    before = len(_LOOKED_UP)
    try:
        yield paths
    finally:
        paths += _LOOKED_UP[before:]
        del _LOOKED_UP[before:]


def note_lookup(path: Path) -> None:
    """Count a file among those that a benchmark is made of."""
    _LOOKED_UP.append(path)


def table_path(root: str | None, file: str, benchmark: str) -> Path:
    """Where a table lies; raises ``ConfigError`` without a root and ``InputError`` without the file."""
    if root is None:
        raise ConfigError(
            f"benchmark {benchmark!r} reads {file}, but benchmark.root is not set: give the folder that holds it, e.g. "
            "benchmark.root=../shared/data (benchmarks/cards says where the table comes from)"
        )
    folder = user_path(root, "root")
    if not folder.is_dir():
        raise InputError(f"benchmark {benchmark!r}: root={root} is no folder: give the one that holds {file}")
    if not (folder / file).is_file():
        raise InputError(
            f"benchmark {benchmark!r}: no file {folder / file}: root={root} must hold {file}; `python -m src.tasks "
            "fetch` lists what can be fetched, benchmarks/cards says where the rest comes from"
        )
    note_lookup(folder / file)
    return folder / file


def table_names(paths: Sequence[Path]) -> list[str]:
    """A name of each table, which the ids of its rows begin with: that of its file, and where several tables share
    one, as ``train/data.csv`` and ``test/data.csv`` do, the path from the folder that holds all of them."""
    counts = Counter(path.name for path in paths)
    folder = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    return [path.name if counts[path.name] == 1 else path.relative_to(folder).as_posix() for path in paths]


def read_columns(path: Path, texts: Sequence[str], numbers: Sequence[str] = (), name: str | None = None) -> Dataset:
    """Read columns of a CSV or TSV file into memory, under a typed schema.

    Args:
        path: a file with a header line, in any form that ``read_records`` reads.
        texts: columns read as text, blanks at either end removed; an empty cell becomes null.
        numbers: columns read as float64; what is not a finite number becomes null.
        name: what rows call the file, where several tables are read (``table_names``); None for the file's name.

    Returns:
        These columns and ``row``, the file and the line of it that a row begins in (the first is 1); where rows are
        malformed, ``FAULT`` too, which is null in the others. ``RowValidator`` refuses those that are. Of a column of
        numbers that holds anything else, ``UNREAD`` and its name is a column of the texts that are no numbers.

    Raises:
        InputError: a missing column, or a file that is not a table.
    """
    from datasets import Dataset, Features, Value  # a second of imports that embedded benchmarks do not need

    frame = _read_text(path, [*texts, *numbers], path.name if name is None else name)
    for column in texts:
        stripped = frame[column].astype("string").str.strip()
        frame[column] = stripped.mask(stripped == "")
    unread = []
    for column in numbers:
        values = pd.to_numeric(frame[column], errors="coerce").astype("float64")
        values = values.where(np.isfinite(values))
        texts_in_place = frame[column].astype("string").str.strip().where(values.isna())
        if (texts_in_place.fillna("") != "").any():
            unread.append(UNREAD + column)
            frame[unread[-1]] = texts_in_place.mask(texts_in_place == "")
        frame[column] = values
    faults = [FAULT] * (FAULT in frame)
    words = [*texts, "row", *faults, *unread]
    schema = {**dict.fromkeys(words, Value("string")), **dict.fromkeys(numbers, Value("float64"))}
    return Dataset.from_pandas(frame, features=Features(schema), preserve_index=False)


def checksum(paths: Sequence[Path], benchmark: str, expected: str | None = None) -> str:
    """SHA-256 of the files' bytes one after the other (``cat FILES | sha256sum``).

    Raises:
        InputError: it is not the ``expected`` one.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    if expected is not None and total.hexdigest() != expected:
        raise InputError(
            f"benchmark {benchmark!r}: {', '.join(map(str, paths))} has SHA-256 {total.hexdigest()}, expected "
            f"{expected}: the table is another version; fetch the right one or change benchmark.sha256"
        )
    return total.hexdigest()


Same = Mapping[str, Callable[[str], str]]  # column -> what its equal values share


class RowValidator:
    """Checks the rows of a table; bad rows are set aside, each with the first reason against it.

    Attributes:
        frame: the rows that passed every check so far.
        rejects: the rows that did not, with the reason.
    """

    def __init__(self, table: Dataset) -> None:
        self.frame = table.to_pandas()
        self.rejects: list[Reject] = []
        self._total = len(self.frame)
        if FAULT in self.frame:
            self.refuse(self.frame[FAULT])
            self.frame = self.frame.drop(columns=FAULT)

    def refuse(self, reasons: pd.Series) -> None:
        """Set aside the rows that have a reason; ``reasons`` is aligned with ``frame``, null where there is none."""
        bad = reasons.notna()
        rows = zip(self.frame.loc[bad, "row"], reasons[bad], strict=True)
        self.rejects += [Reject(row, reason) for row, reason in rows]
        self.frame = self.frame[~bad]

    def require(self, columns: Sequence[str]) -> None:
        """Refuse rows in which a column is empty, or holds no number where numbers are read."""
        for column in columns:
            if UNREAD + column in self.frame:
                self.refuse(self.frame[UNREAD + column].map(partial(_no_number, column), na_action="ignore"))
                self.frame = self.frame.drop(columns=UNREAD + column)
            missing = self.frame[column].isna()
            self.refuse(missing.map({True: f"{column} is missing or cannot be read", False: None}))

    def convert(self, column: str, function: Callable[[str], Hashable]) -> None:
        """Replace a column's values by ``function`` of them; an ``InputError`` refuses the rows with that value."""
        values, reasons = {}, {}
        for value in self.frame[column].unique():
            try:
                values[value] = function(value)
            except InputError as error:
                reasons[value] = str(error)
        self.refuse(self.frame[column].map(reasons))
        self.frame = self.frame.assign(**{column: self.frame[column].map(values)})

    def distinct(self, keys: Sequence[str], answer: str, same: Same | None = None) -> None:
        """Refuse every row of a key that has several answers, and all but the first row of a key with one.

        Args:
            same: column -> what its equal values share, for columns whose values may differ and be equal all the same.
        """
        compared = shared(self.frame, same or {})
        groups = compared.groupby(list(keys), sort=False)
        name = " and ".join(keys)
        first, last = (groups["row"].transform(end) for end in ("first", "last"))
        contradicting = groups[answer].transform("nunique") > 1
        repeated = compared.duplicated(list(keys)) & ~contradicting
        reasons = pd.Series(None, index=self.frame.index, dtype=object)
        reasons[contradicting] = f"the same {name} has different {answer}s between " + first + " and " + last
        reasons[repeated] = f"the same {name} and {answer} as in " + first
        self.refuse(reasons)

    def finish(self, max_rejects: float) -> None:
        """Raise ``InputError`` if no row is left or more than this share was refused."""
        count = len(self.rejects)
        if self.frame.empty and not count:
            raise InputError(f"none of the {self._total} rows is of the kind that this benchmark asks about")
        if count > max_rejects * self._total or self.frame.empty:
            reasons = "; ".join(f"{reject.row}: {reject.reason}" for reject in self.rejects[:SHOWN])
            raise InputError(
                f"{count} of {self._total} rows were refused, more than benchmark.max_rejects={max_rejects:g} allows. "
                f"First reasons: {reasons}"
            )


def _no_number(column: str, text: str) -> str:
    """Why a text is no number, with the likely cause."""
    comma = ": is its comma a decimal one? Write a point" if DECIMAL_COMMA.fullmatch(text) else ""
    return f"{column} {shown(text)} is not a finite number{comma}"


def shared(frame: pd.DataFrame, same: Same) -> pd.DataFrame:
    """The frame with these columns' values replaced by what equal ones share."""
    return frame.assign(
        **{
            column: frame[column].map({value: function(value) for value in frame[column].unique()})
            for column, function in same.items()
        }
    )


def one_of(column: str, values: Sequence[str]) -> Callable[[str], int]:
    """A conversion from a table's value to its index in ``values``; whole numbers may be written ``1`` or ``1.0``."""
    positions = {value: index for index, value in enumerate(values)}

    def index(value: str) -> int:
        position = positions.get(value, positions.get(value.removesuffix(".0")))
        if position is None:
            raise InputError(f"{column} {value!r} is not one of {', '.join(values)}")
        return position

    return index


def _read_text(path: Path, columns: Sequence[str], name: str) -> pd.DataFrame:
    """The columns as text, null where a cell is empty or the row malformed; ``row`` and, if there are any, faults."""
    table = read_records(path, columns)
    empty = ("",) * len(table.header)
    cells = [row.fields if len(row.fields) == len(empty) and not row.fault else empty for row in table.rows]
    positions = {column: table.header.index(column) for column in columns}
    frame = pd.DataFrame(
        {column: [row[position] or None for row in cells] for column, position in positions.items()}, dtype=object
    )
    frame["row"] = [f"{name}:{row.line}" for row in table.rows]
    if any(row.fault for row in table.rows):
        frame[FAULT] = [row.fault for row in table.rows]
    return frame
