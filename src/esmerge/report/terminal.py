"""The last thing on screen: the table in short, what was written, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from esmerge.report.tables import MARKS, NOTHING, ReportTable, TableEntry, interval, number

TITLE = "accuracy in %, best merge in bold, second best underlined"
WIDE_ENOUGH = 6  # benchmarks that fit beside their means on a usual screen


def show(tables: Sequence[ReportTable], paths: Sequence[Path], verdict: str, console: Console | None = None) -> None:
    """Print the report; all columns if they are few, the means (and lone benchmarks) otherwise."""
    screen = console or Console()
    for table in tables:
        if table.lines:
            screen.print(_grid(table))
    screen.print("\nWritten:")
    for path in paths:
        screen.print(f"  {path}", soft_wrap=True, highlight=False, markup=False)
    screen.print()
    screen.print(Panel(Text(verdict), title="Verdict", title_align="left"))


def _grid(table: ReportTable) -> Grid:
    indices = _shown_columns(table)
    grid = Grid(
        title=": ".join([*filter(None, [table.title]), TITLE]).capitalize(),
        title_justify="left",
        caption=escape(table.power_note()),
        caption_justify="left",
        header_style="bold",
    )
    grid.add_column("method")
    for index in indices:
        grid.add_column(escape(table.columns[index].title), justify="right")
    measured = [line for line in table.lines if any(entry.cell for entry in line.entries)]
    for _, lines in groupby(measured, key=lambda line: line.block):
        for line in lines:
            grid.add_row(escape(line.heading), *[_text(line.entries[index]) for index in indices])
        grid.add_section()
    return grid


def _shown_columns(table: ReportTable) -> list[int]:
    """Indices of the columns that a screen has room for."""
    if len(table.columns) <= WIDE_ENOUGH:
        return list(range(len(table.columns)))
    averaged = {name for column in table.columns if column.is_mean for name in column.benchmarks}
    return [index for index, column in enumerate(table.columns) if column.is_mean or column.name not in averaged]


def _text(entry: TableEntry) -> Text:
    if entry.cell is None:
        return Text(NOTHING, style="dim")
    text = Text(number(entry.cell), style="bold" if entry.best else "underline" if entry.second else "")
    return text.append(interval(entry.cell), style="dim not bold not underline").append(MARKS[entry.mark])
