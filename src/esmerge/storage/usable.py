"""Whether a folder can be worked in, found out before any work is done."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path

from esmerge.core.errors import StoreError


def check_folder(folder: Path, setting: str) -> None:
    """Refuse a folder in which no file can be written or locked; one that is not there yet is not made.

    Args:
        setting: whose value it is, for the message.

    Raises:
        StoreError: it is a file or lies below one, is read-only, or its file system has no locks.
    """
    existing = _existing(folder)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".esmerge-", dir=existing))
    except OSError as error:
        reason = f"{existing} is no folder" if not existing.is_dir() else f"{existing}: {error.strerror}"
        raise StoreError(f"{setting}={folder} cannot be written ({reason}): give a folder that can be") from error
    try:
        _lock(scratch / "lock")
    except OSError as error:
        raise StoreError(
            f"{setting}={folder} lies on a file system without file locks ({error.strerror}), so that processes could "
            "write into one another's files: give a folder on another one, or mount it with locks (Lustre: flock)"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _lock(path: Path) -> None:
    """Lock a new file as ``filelock`` does, which would go over to locks that outlive a killed process."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
