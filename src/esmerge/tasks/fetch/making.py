"""The tables that benchmarks expect, derived from the tables that upstream publishes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from esmerge.core.errors import InputError
from esmerge.data.records import read_records
from esmerge.tasks.fetch.sources import DerivedTable, RemoteFile

SPLIT = "split"


def make(table: DerivedTable, root: Path) -> pd.DataFrame:
    """Rows of the parts in their order, columns renamed; repeated and contradicting rows removed if so declared.

    Raises:
        InputError: a part has no such column, or a malformed row.
    """
    frame = pd.concat([_part(root / file, split, table.columns) for file, split in table.parts.items()])
    return distinct(frame) if table.distinct else frame


def distinct(frame: pd.DataFrame) -> pd.DataFrame:
    """The first row of each key, and no row of a key with several labels; the key is the first column, the label the
    second."""
    key, label = frame.columns[:2]
    agree = frame.groupby(key)[label].transform("nunique") == 1
    return frame[agree].drop_duplicates(key)


def bring_derived(table: DerivedTable, root: Path) -> Callable[[Path], Path]:
    """The function that ``place_file`` calls to write the table."""

    def bring(target: Path) -> Path:
        scratch = target.with_name(f"{target.name}.part")
        make(table, root).to_csv(scratch, index=False, lineterminator="\n")
        return scratch

    return bring


def as_remote_file(table: DerivedTable) -> RemoteFile:
    """The table as a file with a checksum, whose origin is its parts."""
    return RemoteFile(table.to, f"made of {', '.join(table.parts)}", table.sha256)


def _part(path: Path, split: str | None, columns: dict[str, str]) -> pd.DataFrame:
    table = read_records(path, list(columns))
    faults = [row for row in table.rows if row.fault]
    if faults:
        raise InputError(f"{path}, line {faults[0].line} {faults[0].fault}; delete the file and fetch it again")
    frame = pd.DataFrame([row.fields for row in table.rows if row.fields], columns=list(table.header))
    frame = frame[list(columns)].rename(columns=columns)
    return frame if split is None else frame.assign(**{SPLIT: split})
