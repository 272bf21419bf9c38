"""How a sweep's progress is shown: one live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live

from esmerge.cli.progress_table import progress_line, progress_table
from esmerge.core.errors import BenchError
from esmerge.core.progress import hidden_bars, say
from esmerge.tracking.survey import Surveyor

EVERY = 1.0  # seconds between two looks at the folder


@contextmanager
def showing(folder: Path, stream: TextIO) -> Iterator[None]:
    """While it lasts, show how far a sweep is.

    Args:
        stream: standard output or error.
    """
    with LiveTable(folder, stream).drawn() if is_lively(stream) else PlainLines(folder, stream).printed():
        yield


def is_lively(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can be drawn on."""
    return stream.isatty() and os.environ.get("TERM") not in (None, "dumb", "unknown")


class LiveTable:
    """A table at the foot of the terminal, which is drawn anew every second; what is printed stands above it."""

    def __init__(self, folder: Path, stream: TextIO) -> None:
        self.surveyor = Surveyor(folder)
        self.screen = Console(file=stream)
        self.last: RenderableType = ""

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """While it lasts, the table stands there; bars, which would be drawn over it, are hidden."""
        live = Live(
            get_renderable=self.render,
            console=self.screen,
            refresh_per_second=1.0 / EVERY,
            redirect_stdout=sys.stdout.isatty(),  # what goes to a file goes there still
            redirect_stderr=sys.stderr.isatty(),
        )
        with hidden_bars(), live:
            yield

    def render(self) -> RenderableType:
        """The table as things stand; the last one where a record cannot be read just now."""
        with suppress(BenchError, OSError):  # said by who needs the record
            self.last = progress_table(self.surveyor.look())
        return self.last


@dataclass
class PlainLines:
    """A line whenever the number of runs that are done, running or failed has changed."""

    folder: Path
    stream: TextIO
    last: str = ""
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @contextmanager
    def printed(self) -> Iterator[None]:
        """While it lasts, a thread looks and prints."""
        thread = threading.Thread(target=self._watch, name="sweep progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        surveyor = Surveyor(self.folder)
        while not self._ended.wait(EVERY):
            self._print(surveyor)
        self._print(surveyor)

    def _print(self, surveyor: Surveyor) -> None:
        try:
            line = progress_line(surveyor.look())
        except (BenchError, OSError):  # said by who needs the record
            return
        counts = line.partition(";")[0]
        if counts != self.last:
            say(line, self.stream)
        self.last = counts
