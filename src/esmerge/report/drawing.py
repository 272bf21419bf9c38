"""Figures of a large sweep, drawn by other processes while tables and tests are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor
from matplotlib.figure import Figure

from esmerge.report.plots.style import save_both

PROCESSES = 2  # at most, beside this one
MANY_RUNS = 40  # of a sweep; the figures of fewer are drawn before another process has imported what it needs


@dataclass(frozen=True)
class Sketch:
    """A figure that is still to be drawn.

    Attributes:
        draw: a function of a module, which another process can import.
        table: its tidy table.
        stem: of its two files, without an ending.
    """

    draw: Callable[[Any], Figure]
    table: Any
    stem: Path

    def write(self) -> list[Path]:
        """Draw it, as PNG and as SVG; its two files."""
        return save_both(self.draw(self.table), self.stem)


class Drawing(Protocol):
    """A figure in the making."""

    def paths(self) -> list[Path]:
        """Its two files, once they are written. What failed in another process is raised here."""


class Drawers(Protocol):
    """Where figures are drawn."""

    def begin(self, sketch: Sketch) -> Drawing:
        """Have a figure drawn, at the latest when its files are asked for."""


class ThisProcess:
    """Draws figures when their files are asked for."""

    def begin(self, sketch: Sketch) -> Drawing:
        """See ``Drawers``."""
        return _Later(sketch)


class OtherProcesses:
    """Draws figures in other processes, which import what they need while this one reads the sweep.

    Args:
        first: what they do first, a function of a module that imports what draws.
    """

    def __init__(self, processes: int, first: Callable[[], None]) -> None:
        # not joblib's reusable ones: its launcher fails in a program where those were begun by anything else
        self._executor = ProcessPoolExecutor(max_workers=processes)
        for _ in range(processes):
            self._executor.submit(first)

    def begin(self, sketch: Sketch) -> Drawing:
        """See ``Drawers``."""
        return _Beside(self._executor.submit(sketch.write))

    def end(self, *, at_once: bool) -> None:
        """End the processes: at once, or when all figures are drawn."""
        self._executor.shutdown(wait=True, kill_workers=at_once)


@dataclass(frozen=True)
class _Later:
    sketch: Sketch

    def paths(self) -> list[Path]:
        return self.sketch.write()


@dataclass(frozen=True)
class _Beside:
    written: Any  # a future of paths

    def paths(self) -> list[Path]:
        paths: list[Path] = self.written.result()
        return paths


@contextmanager
def drawers(runs: int, first: Callable[[], None]) -> Iterator[Drawers]:
    """Where the figures of a report are drawn; what draws them has ended when the ``with`` statement has.

    Args:
        runs: of the sweep.
        first: see ``OtherProcesses``.
    """
    cores = cpu_count()  # that may be used; this process needs one itself
    if runs < MANY_RUNS or cores == 1:
        yield ThisProcess()
        return
    others = OtherProcesses(min(PROCESSES, cores - 1), first)
    try:
        yield others
    except BaseException:
        others.end(at_once=True)  # nobody will see the other figures
        raise
    others.end(at_once=False)
