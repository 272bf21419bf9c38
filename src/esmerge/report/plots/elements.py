"""How the weights of single entries are spread, module by module and layer by layer."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from esmerge.report.plots.style import frame_panel, series

GREY, DASHED = "#666666", (0, (4, 3))


def elements_figure(table: pd.DataFrame) -> Figure:
    """One row per method and expert, one column per module: median, middle half and middle 90 % of weights by layer.

    Args:
        table: columns ``title, module, expert, layer, q05, q25, q50, q75, q95``.
    """
    rows = list(table[["title", "expert"]].drop_duplicates().itertuples(index=False, name=None))
    modules, styles = list(table["module"].unique()), series(list(table["expert"].unique()))
    figure = Figure(figsize=(max(6.0, 1.2 + 1.75 * len(modules)), 0.9 + 1.25 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(modules), sharex=True, sharey=True, squeeze=False)
    for i, (title, expert) in enumerate(rows):
        of_row = table[(table["title"] == title) & (table["expert"] == expert)]
        for j, module in enumerate(modules):
            frame_panel(grid[i, j], module if i == 0 else "")
            grid[i, j].axhline(1 / len(styles), color="#999999", linewidth=0.8, linestyle=DASHED)
            _draw(grid[i, j], of_row[of_row["module"] == module], *styles[expert])
        grid[i, 0].set_ylabel(f"{title.replace(' (', chr(10) + '(')}\n{expert}", fontsize=7.5)
    grid[0, 0].set_ylim(-0.02, 1.02)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    figure.supxlabel("Decoder layer", fontsize=9)
    figure.supylabel("Weight of an entry", fontsize=9)
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=GREY, marker="o", markersize=3, label="median"),
        Patch(color=GREY, alpha=0.45, label="middle half"),
        Patch(color=GREY, alpha=0.2, label="middle 90 %"),
        Line2D([], [], color="#999999", linewidth=0.8, linestyle=DASHED, label="equal share"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _draw(panel: Axes, lines: pd.DataFrame, colour: str, marker: str) -> None:
    panel.fill_between(lines["layer"], lines["q05"], lines["q95"], color=colour, alpha=0.18, linewidth=0)
    panel.fill_between(lines["layer"], lines["q25"], lines["q75"], color=colour, alpha=0.38, linewidth=0)
    panel.plot(lines["layer"], lines["q50"], color=colour, marker=marker, markersize=2.5, linewidth=1.2)
