"""Whole files or none: everything is written beside its place and renamed into it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from esmerge.core.errors import StoreError

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it takes the place of ``path`` only if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Delete what killed writers left in ``folder``; only for who holds its lock."""
    for path in folder.rglob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: Path, record: Mapping[str, object]) -> Path:
    """Write a record as readable JSON."""
    return write_text(path, json.dumps(record, indent=1, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a record; ``StoreError`` if the file is not a JSON object."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise StoreError(f"{path} is not valid JSON ({error}): delete it and run the same command again") from error
    if not isinstance(record, dict):
        raise StoreError(f"{path} holds a {type(record).__name__}, expected a JSON object")
    return record


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """Write a CSV; NaN becomes an empty cell, numbers keep every digit."""
    text = frame.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # which the writer leaves unquoted, and readers take for the end of a row
        text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return write_text(path, text)


def read_table(path: Path, numbers: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a CSV as text (an empty cell is ``""``), the columns that start with a name in ``numbers`` as floats."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in [column for column in frame if str(column).startswith(numbers)] if numbers else []:
        frame[column] = [float(cell) if cell else float("nan") for cell in frame[column]]
    return frame


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
