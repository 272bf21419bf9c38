"""What a run is busy with, noted in its folder while it runs, so that any shell can tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from esmerge.core.errors import StoreError
from esmerge.core.progress import Step, listening
from esmerge.storage.files import read_json, write_json

FILE = "step.json"  # in a run folder, while the run goes on
EVERY = 2.0  # seconds between two notes


@contextmanager
def noted_steps(run: Path) -> Iterator[None]:
    """While it lasts, steps of this process's bars are noted in a run folder, at most one every ``EVERY`` seconds."""
    path, last = run / FILE, float("-inf")

    def note(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            with suppress(OSError):  # a note decides nothing; a disk that is full shows where results are written
                write_json(path, asdict(step))
            last = time.monotonic()

    try:
        with listening(note):
            yield
    finally:
        path.unlink(missing_ok=True)


def read_step(run: Path) -> Step | None:
    """What the run was last busy with; None where nothing is noted."""
    try:
        return Step(**read_json(run / FILE))
    except (OSError, StoreError, TypeError):  # it may end at any moment
        return None
