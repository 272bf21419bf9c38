"""Which W&B run shows a run: noted in the run's folder, so that what is missing on the server can be sent later."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from esmerge.core.errors import StoreError
from esmerge.storage.files import read_json, write_json

FILE = "wandb.json"
MARK = "*.wandb.synced"  # which `wandb sync` leaves beside a file that has been sent whole


@dataclass(frozen=True)
class LoggedRun:
    """A W&B run.

    Attributes:
        id: its id.
        mode: ``offline`` or ``online``.
        folder: of its files; stored relative to the record, so that a sweep may be moved.
        content: hash of what it shows; empty for a run, whose folder says that.
        failed: whether it shows a failure, and no results.
        beside: where the record lay when the run was logged: its artifacts name files by their whole paths.
    """

    id: str
    mode: str
    folder: str
    content: str = ""
    failed: bool = False
    beside: str = ""


def write_logged(beside: Path, logged: LoggedRun) -> Path:
    """Note the W&B run of a run folder."""
    folder = os.path.relpath(Path(logged.folder).resolve(), beside.resolve())
    return write_json(beside / FILE, asdict(replace(logged, folder=folder, beside=str(beside.resolve()))))


def read_logged(beside: Path) -> LoggedRun | None:
    """The W&B run of a run folder; None where none is noted.

    Raises:
        StoreError: the note is damaged.
    """
    path = beside / FILE
    if not path.exists():
        return None
    try:
        logged = LoggedRun(**read_json(path))
    except TypeError as error:
        raise StoreError(f"{path} does not name a W&B run ({error}): delete it, and wandb=sync logs it anew") from error
    return replace(logged, folder=os.path.normpath(beside / logged.folder))


def is_on_server(logged: LoggedRun) -> bool:
    """Whether a run was logged online, or has been sent since."""
    return logged.mode == "online" or any(Path(logged.folder).glob(MARK))


def is_logged(beside: Path, content: str = "", failed: bool = False) -> bool:
    """Whether a W&B run shows this, and can still be sent: files that its artifacts name may have been moved.

    Args:
        content: hash of what should be shown.
        failed: whether a failure should be.
    """
    logged = read_logged(beside)
    if logged is None or (logged.content, logged.failed) != (content, failed):
        return False
    return is_on_server(logged) or logged.beside in ("", str(beside.resolve()))
