"""How accuracy changes with a setting that a sweep varied."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from esmerge.report.plots.lettering import WIDTH, put_legend, wrapped
from esmerge.report.plots.style import frame_panel, series

ACROSS = 2  # panels in a row


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """One panel per setting: its value across, accuracy up with its interval, one line per method.

    Args:
        table: columns ``setting, method, value, y, y_low, y_high``, accuracies as shares. A setting whose values are
            all positive and span a factor of ten has a logarithmic axis.
    """
    settings = list(table["setting"].unique())
    styles = series(list(table["method"].unique()))
    names = {title: wrapped(title, 2.9, 8) for title in styles}
    across = min(ACROSS, len(settings))
    down = math.ceil(len(settings) / across)
    width = min(WIDTH, max(5.0, 0.8 + 3.4 * across))
    figure = Figure(figsize=(width, 0.6 + 3.0 * down + 0.16 * len(styles)), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).ravel()
    for panel, setting in zip(panels, settings, strict=False):
        part = table[table["setting"] == setting]
        for method, unsorted in part.groupby("method", sort=False):
            points = unsorted.sort_values("value")
            colour, marker = styles[str(method)]
            panel.fill_between(points["value"], 100 * points["y_low"], 100 * points["y_high"], color=colour, alpha=0.12)
            panel.plot(
                points["value"], 100 * points["y"], color=colour, marker=marker, markersize=4, label=names[str(method)]
            )
        if part["value"].min() > 0 and part["value"].max() >= 10 * part["value"].min():
            panel.set_xscale("log")
        values = sorted(part["value"].unique())
        panel.set_xticks(values, [f"{value:g}" for value in values], fontsize=8)
        panel.minorticks_off()
        frame_panel(panel, axis="both")
        panel.set_xlabel(setting, fontsize=9)
    for panel in panels[len(settings) :]:
        panel.axis("off")
    figure.supylabel("Cross-modal accuracy (%), 95 % interval over questions", fontsize=9)
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    put_legend(figure, list(lines.values()))
    return figure
