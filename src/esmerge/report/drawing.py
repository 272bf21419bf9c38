"""Figures of a large sweep, drawn by other processes while tables and tests are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import Parallel, cpu_count, delayed
from matplotlib.figure import Figure

from esmerge.report.plots.style import save_both

PROCESSES = 2
MANY_ROWS = 30  # of methods; fewer are drawn before another process has imported what it needs


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


class Drawing:
    """Figures in the making; ``paths`` waits for them."""

    def __init__(self, written: Iterable[list[Path]]) -> None:
        self._written = written

    def paths(self) -> list[Path]:
        """The files, a PNG and an SVG of each figure, once all are written; asked for once."""
        return [path for paths in self._written for path in paths]


def begin_drawing(sketches: Sequence[Sketch], rows: int) -> Drawing:
    """Draw figures here and now, or where they show many rows in processes beside this one.

    Args:
        rows: methods that they show.
    """
    if rows < MANY_ROWS or cpu_count() == 1:
        return Drawing([_write(sketch) for sketch in sketches])
    tasks = (delayed(_write)(sketch) for sketch in sketches)
    return Drawing(Parallel(n_jobs=PROCESSES, return_as="generator")(tasks))


def _write(sketch: Sketch) -> list[Path]:
    return save_both(sketch.draw(sketch.table), sketch.stem)
