"""Whether a method is right as often as it is sure."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from esmerge.core.methods import MethodKind
from esmerge.report.plots.lettering import LINE, WIDTH, line_count, wrapped
from esmerge.report.plots.style import STYLES, frame_panel

ACROSS = 4


def calibration_figure(table: pd.DataFrame) -> Figure:
    """One panel per method: mean confidence of each bin across, accuracy up; the larger a dot, the more answers.

    Args:
        table: columns ``title, kind, confidence, accuracy, n``, one row per bin that holds answers. The expected
            calibration error in a panel's title is the mean gap, weighted by n.
    """
    titles = list(table["title"].unique())
    across = min(ACROSS, len(titles))
    down = math.ceil(len(titles) / across)
    width = min(WIDTH, 0.8 + 2.2 * across)
    column = (width - 0.7) / across
    names = [wrapped(title, column - 0.15, 8) for title in titles]
    heads = [8 * LINE * (line_count(names[start : start + across]) + 1) for start in range(0, len(names), across)]
    figure = Figure(figsize=(width, 0.6 + 1.75 * down + sum(heads)), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    lowest = 10 * math.floor(10 * float(table["confidence"].min()))
    for panel, title, name in zip(grid, titles, names, strict=False):
        bins = table[table["title"] == title]
        colour, _ = STYLES[MethodKind(bins["kind"].iloc[0])]
        gap = (bins["confidence"] - bins["accuracy"]).abs()
        error = float((gap * bins["n"]).sum() / bins["n"].sum())
        frame_panel(panel, axis="both")
        panel.set_title(f"{name}\nECE {100 * error:.1f} %", fontsize=8)
        panel.plot([0, 100], [0, 100], color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        panel.plot(100 * bins["confidence"], 100 * bins["accuracy"], color=colour, linewidth=1.1, zorder=2)
        sizes = 4 + 70 * bins["n"] / bins["n"].sum()
        panel.scatter(100 * bins["confidence"], 100 * bins["accuracy"], s=sizes, color=colour, zorder=3, linewidths=0)
        panel.set(xlim=(lowest - 2, 102), ylim=(-2, 102))
    for panel in grid[len(titles) :]:
        panel.axis("off")
    for panel in grid[max(0, len(titles) - across) : len(titles)]:  # the last of each column, not only of the grid
        panel.tick_params(labelbottom=True)
    figure.supxlabel("Mean confidence in the answer (%)", fontsize=9)
    figure.supylabel("Accuracy (%)", fontsize=9)
    return figure
