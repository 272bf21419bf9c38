"""Errors of the file system in words, and which of them no later run can get around."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_IN_WORDS = tuple(f"os error {number}" for number in FULL)  # as libraries written in Rust say it


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that nothing more can be written."""
    return any(
        cause.errno in FULL if isinstance(cause, OSError) else any(words in str(cause) for words in FULL_IN_WORDS)
        for cause in _chain(error)
    )


def disk_message(error: BaseException, folder: Path) -> str:
    """One line on an error of the file system: what, where, and what to do.

    Args:
        folder: what was being written, where the error names no file.
    """
    if disk_is_full(error):
        return (
            f"the disk of {folder} or of the cache is full ({error}): free some space and run the same command again; "
            "what is finished stays"
        )
    if isinstance(error, OSError):
        where = error.filename or folder
        return f"{where} cannot be used ({error.strerror or error}): give a folder that can be read and written"
    return f"{folder}: {error}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, then what it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
