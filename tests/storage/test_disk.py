"""Errors of the file system in words."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from esmerge.storage.disk import disk_is_full, disk_message


def raised_from(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (raised_from(RuntimeError("not written"), OSError(errno.ENOSPC, "No space left")), True),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (ValueError("a row has no label"), False),
    ],
)
def test_a_full_disk_is_known_whoever_met_it(error: Exception, full: bool) -> None:
    assert disk_is_full(error) == full
    assert ("is full" in disk_message(error, Path("outputs/mine"))) == full


def test_a_message_names_the_file_the_reason_and_what_to_do() -> None:
    error = OSError(errno.EROFS, "Read-only file system", "/data/x/status.json")
    message = disk_message(error, Path("outputs/mine"))
    assert message.startswith("/data/x/status.json cannot be used (Read-only file system): give a folder")
