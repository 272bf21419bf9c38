"""Methods side by side, one panel per family of benchmarks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from esmerge.core.methods import MethodKind
from esmerge.report.methods import BLOCKS
from esmerge.report.plots.lettering import LINE, WIDTH, put_legend, text_width, widest_line, wrapped
from esmerge.report.plots.style import STYLES, frame_panel

ACROSS = 4  # panels in a row
SIZE = 8.0  # of the methods' names
NAMES, ROW, DOTS = 2.2, 0.25, 0.08  # inches: a name's longest line, a row, and from its middle to its faint dots


def methods_figure(table: pd.DataFrame) -> Figure:
    """Accuracy of each method with its interval, and each benchmark of a mean as a faint dot.

    Args:
        table: columns ``panel, title, kind, benchmark, value, low, high``, accuracies as shares; an empty
            ``benchmark`` is the mean itself, whose value is NaN where a method lacks one.
    """
    panels, rows = list(table["panel"].unique()), table.drop_duplicates("title")
    titles, kinds = list(rows["title"]), [MethodKind(kind) for kind in rows["kind"]]
    names = [wrapped(title, NAMES, SIZE) for title in titles]
    heights = [ROW + SIZE * LINE * name.count("\n") for name in names]
    places = np.cumsum(heights) - np.array(heights) / 2  # inches from the top
    across = min(ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    labels = widest_line(names, SIZE) + 0.2
    width = min(WIDTH, labels + 3.1 * across)
    figure = Figure(figsize=(width, 0.8 + down * (0.4 + sum(heights))), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, heading in zip(grid, panels, strict=False):
        of_panel = table[table["panel"] == heading]
        for kind, points in of_panel.groupby("kind", sort=False):
            _draw(panel, points, MethodKind(str(kind)), places[points["title"].map(titles.index)])
        frame_panel(panel, _heading(heading, (width - labels) / across - 0.1), "x")
        panel.title.set_fontsize(SIZE)
        panel.spines["left"].set_visible(False)
        for y in range(1, len(kinds)):
            if kinds[y] != kinds[y - 1]:
                edge = sum(heights[:y])
                panel.axhline(edge, color="#bbbbbb", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    for panel in grid[len(panels) :]:
        panel.axis("off")
    grid[0].set_yticks(places, names, fontsize=SIZE)
    grid[0].set_ylim(sum(heights), 0)
    grid[0].xaxis.set_major_locator(MaxNLocator(max(2, int((width - labels) / across / 0.3))))
    label = "Accuracy (%), 95 % interval over questions; faint dots: single benchmarks"
    figure.supxlabel(wrapped(label, width - 0.2, 9), fontsize=9)
    handles = [
        Line2D([], [], color=STYLES[kind][0], marker=STYLES[kind][1], linestyle="", markersize=5, label=BLOCKS[kind])
        for kind in dict.fromkeys(kinds)
    ]
    put_legend(figure, handles)
    return figure


def _heading(text: str, width: float) -> str:
    """What stands in brackets begins a line, if not all fits into one."""
    lines = [text] if text_width(text, SIZE) <= width else text.replace(" (", "\n(").split("\n")
    return "\n".join(wrapped(line, width, SIZE) for line in lines)


def _draw(panel: Axes, points: pd.DataFrame, kind: MethodKind, y: NDArray[np.float64]) -> None:
    """The methods of one kind, each at the height ``y`` of its row."""
    colour, marker = STYLES[kind]
    value, low, high = (100 * points[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
    single = (points["benchmark"] != "").to_numpy()
    mean = ~single & np.isfinite(value)
    panel.plot(value[single], y[single] + DOTS, ".", color=colour, alpha=0.45, markersize=4.5, zorder=1)
    panel.hlines(y[mean], low[mean], high[mean], color=colour, linewidth=1.8, zorder=2)
    panel.plot(value[mean], y[mean], marker, color=colour, markersize=5, markeredgecolor="white", zorder=3)
