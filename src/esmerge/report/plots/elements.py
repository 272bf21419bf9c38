"""How the weights of single entries are spread, module by module and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from esmerge.report.plots.lettering import LINE, WIDTH, line_count, put_legend, wrapped
from esmerge.report.plots.style import frame_panel, series

GREY, DASHED = "#666666", (0, (4, 3))
SIZE = 8.0  # of titles
LABELS, ROW = 0.9, 0.95  # inches: what stands beside the panels, and a row of them


def elements_figure(table: pd.DataFrame) -> Figure:
    """One row per method and expert, one column per module: median, middle half and middle 90 % of weights by layer.

    A method's name stands over the first of its rows, with those of the modules.

    Args:
        table: columns ``title, module, expert, layer, q05, q25, q50, q75, q95``.
    """
    rows = list(table[["title", "expert"]].drop_duplicates().itertuples(index=False, name=None))
    modules, styles = list(table["module"].unique()), series(list(table["expert"].unique()))
    width = min(WIDTH, max(6.0, 1.2 + 1.75 * len(modules)))
    column = (width - LABELS) / len(modules)
    heads = {title: wrapped(title, width - LABELS, SIZE) for title in table["title"].unique()}
    names = [wrapped(module, column - 0.1, SIZE) for module in modules]
    above = sum(SIZE * LINE * (line_count([head]) + line_count(names)) for head in heads.values())
    figure = Figure(figsize=(width, 0.9 + ROW * len(rows) + above), layout="constrained")
    grid = figure.subplots(len(rows), len(modules), sharex=True, sharey=True, squeeze=False)
    for i, (title, expert) in enumerate(rows):
        of_row = table[(table["title"] == title) & (table["expert"] == expert)]
        for j, module in enumerate(modules):
            frame_panel(grid[i, j])
            grid[i, j].axhline(1 / len(styles), color="#999999", linewidth=0.8, linestyle=DASHED)
            _draw(grid[i, j], of_row[of_row["module"] == module], *styles[expert])
        if i == 0 or rows[i - 1][0] != title:
            _entitle(grid[i], heads[title], names)
        grid[i, 0].set_ylabel(wrapped(expert, ROW - 0.15, SIZE), fontsize=SIZE)
    grid[0, 0].set_ylim(-0.02, 1.02)
    grid[0, 0].set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(max(2, min(5, int(column / 0.3))), integer=True))
    figure.supxlabel("Decoder layer", fontsize=9)
    figure.supylabel("Weight of an entry", fontsize=9)
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=GREY, marker="o", markersize=3, label="median"),
        Patch(color=GREY, alpha=0.45, label="middle half"),
        Patch(color=GREY, alpha=0.2, label="middle 90 %"),
        Line2D([], [], color="#999999", linewidth=0.8, linestyle=DASHED, label="equal share"),
    ]
    put_legend(figure, handles)
    return figure


def _entitle(panels: Sequence[Axes], head: str, names: Sequence[str]) -> None:
    """A head above a row, and the name of each panel below it."""
    for panel, name in zip(panels, names, strict=True):
        panel.set_title("\n" * line_count([head]) + name, fontsize=SIZE)  # makes room for the head
    offset = 6 + 72 * SIZE * LINE * line_count(names)
    text = panels[0].annotate(head, (0, 1), (0, offset), "axes fraction", "offset points", fontsize=SIZE, va="bottom")
    text.set_in_layout(False)  # it is as wide as all panels


def _draw(panel: Axes, lines: pd.DataFrame, colour: str, marker: str) -> None:
    panel.fill_between(lines["layer"], lines["q05"], lines["q95"], color=colour, alpha=0.18, linewidth=0)
    panel.fill_between(lines["layer"], lines["q25"], lines["q75"], color=colour, alpha=0.38, linewidth=0)
    panel.plot(lines["layer"], lines["q50"], color=colour, marker=marker, markersize=2.5, linewidth=1.2)
