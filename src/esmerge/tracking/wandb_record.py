"""Which W&B run shows a run: noted in the run's folder, so that what is missing on the server can be sent later."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from esmerge.core.errors import StoreError
from esmerge.storage.files import read_json, write_json

FILE = "wandb.json"


@dataclass(frozen=True)
class LoggedRun:
    """A W&B run.

    Attributes:
        id: its id.
        mode: ``offline`` or ``online``.
        folder: of its files; stored relative to the record, so that a sweep may be moved.
        content: hash of what it shows; empty for a run, whose folder says that.
    """

    id: str
    mode: str
    folder: str
    content: str = ""


def write_logged(beside: Path, logged: LoggedRun) -> Path:
    """Note the W&B run of a run folder."""
    folder = os.path.relpath(Path(logged.folder).resolve(), beside.resolve())
    return write_json(beside / FILE, asdict(replace(logged, folder=folder)))


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
