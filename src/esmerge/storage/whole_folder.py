"""Folders that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PARTIAL, OLD, LOCK = ".partial", ".old", ".lock"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``folder`` to be filled; it takes its place if the block ends without an error.

    A folder that is there already is replaced; of a link, the folder that it leads to. What killed writers left beside
    it is removed; a folder that a living process is filling is not, since that process holds its lock.

    Raises:
        OSError: nothing can be written there.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(folder)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}{PARTIAL}"
    lock = FileLock(partial.with_suffix(LOCK))
    try:
        with lock:
            partial.mkdir()
            yield partial
            _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)


def _replace(partial: Path, folder: Path) -> None:
    """Put a finished folder in place; a rename cannot replace a folder that holds files, so the old one steps aside."""
    if not folder.exists():
        partial.rename(folder)
        return
    aside = partial.with_suffix(OLD)
    folder.rename(aside)
    try:
        partial.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside)


def _remove_left(folder: Path) -> None:
    """Remove what killed writers left, and put back a folder that had stepped aside for one that never came."""
    lock_name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{32}}{re.escape(LOCK)}")
    for path in [path for path in folder.parent.iterdir() if lock_name.fullmatch(path.name)]:
        lock = FileLock(path, timeout=0)
        try:
            with lock:
                aside = path.with_suffix(OLD)
                if aside.is_dir() and not folder.exists():
                    aside.rename(folder)
                for leftover in (aside, path.with_suffix(PARTIAL)):
                    shutil.rmtree(leftover, ignore_errors=True)
        except Timeout:
            continue  # its writer lives
        path.unlink(missing_ok=True)
