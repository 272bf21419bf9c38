"""Methods side by side, one panel per family of benchmarks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from esmerge.core.methods import MethodKind
from esmerge.report.methods import BLOCKS
from esmerge.report.plots.style import STYLES, frame_panel


def methods_figure(table: pd.DataFrame) -> Figure:
    """Accuracy of each method with its interval, and each benchmark of a mean as a faint dot.

    Args:
        table: columns ``panel, title, kind, benchmark, value, low, high``, accuracies as shares; an empty
            ``benchmark`` is the mean itself, whose value is NaN where a method lacks one.
    """
    panels, rows = table["panel"].unique(), table.drop_duplicates("title")
    titles, kinds = list(rows["title"]), [MethodKind(kind) for kind in rows["kind"]]
    widest = max(len(title) for title in titles)
    figure = Figure(figsize=(0.09 * widest + 3.1 * len(panels), 1.5 + 0.3 * len(titles)), layout="constrained")
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for panel, heading in zip(grid, panels, strict=True):
        of_panel = table[table["panel"] == heading]
        for kind, points in of_panel.groupby("kind", sort=False):
            _draw(panel, points, MethodKind(str(kind)), points["title"].map(titles.index).to_numpy())
        frame_panel(panel, heading, "x")
        panel.spines["left"].set_visible(False)
        for y in range(1, len(kinds)):
            if kinds[y] != kinds[y - 1]:
                panel.axhline(y - 0.5, color="#bbbbbb", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
    grid[0].set_yticks(range(len(titles)), titles, fontsize=8)
    grid[0].set_ylim(len(titles) - 0.4, -0.6)
    figure.supxlabel("Accuracy (%), 95 % interval; faint dots: single benchmarks", fontsize=9)
    handles = [
        Line2D([], [], color=STYLES[kind][0], marker=STYLES[kind][1], linestyle="", markersize=6, label=BLOCKS[kind])
        for kind in dict.fromkeys(kinds)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _draw(panel: Axes, points: pd.DataFrame, kind: MethodKind, y: NDArray[np.int64]) -> None:
    """The methods of one kind, each in its row ``y``."""
    colour, marker = STYLES[kind]
    value, low, high = (100 * points[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
    single = (points["benchmark"] != "").to_numpy()
    mean = ~single & np.isfinite(value)
    panel.plot(value[single], y[single] + 0.27, ".", color=colour, alpha=0.45, markersize=4.5, zorder=1)
    panel.hlines(y[mean], low[mean], high[mean], color=colour, linewidth=1.8, zorder=2)
    panel.plot(value[mean], y[mean], marker, color=colour, markersize=6.5, markeredgecolor="white", zorder=3)
