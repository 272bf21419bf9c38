"""Whole files or none: everything is written beside its place and renamed into it."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pandas as pd

from esmerge.core.errors import InputError, StoreError
from esmerge.core.json_lines import read_json_object
from esmerge.core.text_files import decode_file

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it takes the place of ``path`` only if the block ends without an error.

    What killed writers of the same file left beside it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        with partial.open("ab") as handle:
            _try_lock(handle)  # as long as it is held, the writer lives
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Remove temporary files of ``path`` whose writer is gone."""
    for leftover in path.parent.iterdir():
        if leftover.name.startswith(f".{path.name}.") and leftover.name.endswith(PARTIAL) and leftover.is_file():
            with suppress(OSError), leftover.open("rb") as handle:  # another writer may be removing it, too
                if _try_lock(handle):
                    leftover.unlink()


def _try_lock(handle: IO[bytes]) -> bool:
    """Lock an open file until it is closed; False if another process holds it, or the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_partial(folder: Path) -> None:
    """Delete the files and folders that killed writers left in ``folder``; only for who holds its lock."""
    for path in list(folder.rglob(f".*{PARTIAL}")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
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
        return read_json_object(path)
    except InputError as error:
        raise StoreError(f"{error}: delete it and run the same command again") from error


def write_table(path: Path, frame: pd.DataFrame) -> Path:
    """Write a CSV; NaN becomes an empty cell, numbers keep every digit."""
    text = frame.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # which the writer leaves unquoted, and readers take for the end of a row
        text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return write_text(path, text)


def read_table(path: Path, numbers: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a CSV as text (an empty cell is ``""``), the columns that start with a name in ``numbers`` as floats."""
    frame = pd.read_csv(io.StringIO(decode_file(path), newline=""), dtype=str, keep_default_na=False)
    for column in [column for column in frame if str(column).startswith(numbers)] if numbers else []:
        frame[column] = [float(cell) if cell else float("nan") for cell in frame[column]]
    return frame


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
