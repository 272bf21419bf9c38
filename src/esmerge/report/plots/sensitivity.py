"""How accuracy changes with a setting that a sweep varied."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from esmerge.report.plots.style import frame_panel, series


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """One panel per setting: its value across, accuracy up with its interval, one line per method.

    Args:
        table: columns ``setting, method, value, y, y_low, y_high``, accuracies as shares. A setting whose values are
            all positive and span a factor of ten has a logarithmic axis.
    """
    settings = list(table["setting"].unique())
    styles = series(list(table["method"].unique()))
    figure = Figure(figsize=(max(5.0, 0.8 + 3.4 * len(settings)), 3.6 + 0.16 * len(styles)), layout="constrained")
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for panel, setting in zip(panels, settings, strict=True):
        part = table[table["setting"] == setting]
        for method, unsorted in part.groupby("method", sort=False):
            points = unsorted.sort_values("value")
            colour, marker = styles[str(method)]
            panel.fill_between(points["value"], 100 * points["y_low"], 100 * points["y_high"], color=colour, alpha=0.12)
            panel.plot(points["value"], 100 * points["y"], color=colour, marker=marker, markersize=4, label=method)
        if part["value"].min() > 0 and part["value"].max() >= 10 * part["value"].min():
            panel.set_xscale("log")
        values = sorted(part["value"].unique())
        panel.set_xticks(values, [f"{value:g}" for value in values], fontsize=8)
        panel.minorticks_off()
        frame_panel(panel, axis="both")
        panel.set_xlabel(setting, fontsize=9)
    panels[0].set_ylabel("Cross-modal accuracy (%), 95 % interval", fontsize=9)
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    figure.legend(handles=list(lines.values()), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure
