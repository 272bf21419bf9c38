"""What a method gives up for its accuracy: what the specialists knew, or time."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esmerge.core.methods import MethodKind
from esmerge.report.methods import MERGED
from esmerge.report.plots.numbers import number_labels
from esmerge.report.plots.style import STYLES, frame_panel

PANEL_WIDTH = 330.0  # about, in 1/72 inch: the layout is found later


def retention_figure(table: pd.DataFrame) -> Figure:
    """Retention across, cross-modal accuracy up; the line joins the merges that none beats on both.

    Args:
        table: columns ``title, kind, x, x_low, x_high, y, y_low, y_high``, accuracies as shares.
    """
    shares = ["x", "x_low", "x_high", "y", "y_low", "y_high"]
    percent = table.assign(**{name: 100 * table[name] for name in shares})
    figure, panel = _numbered(percent)
    for point in percent.to_dict("records"):
        colour, _ = STYLES[MethodKind(point["kind"])]
        panel.plot([point["x_low"], point["x_high"]], [point["y"]] * 2, color=colour, linewidth=0.8, alpha=0.45)
        panel.plot([point["x"]] * 2, [point["y_low"], point["y_high"]], color=colour, linewidth=0.8, alpha=0.45)
    _front(panel, percent)
    _number(panel, percent)
    panel.set_xlabel("Retention: accuracy on the specialists' own questions (%), 95 % interval", fontsize=9)
    panel.set_ylabel("Cross-modal accuracy (%), 95 % interval", fontsize=9)
    return figure


def cost_figure(table: pd.DataFrame) -> Figure:
    """Seconds of measuring and merging across (logarithmic), accuracy up.

    Args:
        table: columns ``title, kind, x, y, y_low, y_high``, ``x`` in seconds and accuracies as shares.
    """
    percent = table.assign(**{name: 100 * table[name] for name in ("y", "y_low", "y_high")})
    percent["x"] = percent["x"].clip(lower=0.01)  # below what a clock tells
    figure, panel = _numbered(percent)
    for point in percent.to_dict("records"):
        colour, _ = STYLES[MethodKind(point["kind"])]
        panel.plot([point["x"]] * 2, [point["y_low"], point["y_high"]], color=colour, linewidth=0.8, alpha=0.45)
    _front(panel, percent.assign(x=-percent["x"]))
    panel.set_xscale("log")
    _number(panel, percent)
    ticks = _seconds(float(percent["x"].min()), float(percent["x"].max()))
    panel.set_xticks(ticks, [f"{value:g}" for value in ticks])
    panel.minorticks_off()
    panel.set_xlabel("Measuring and merging (s)", fontsize=9)
    panel.set_ylabel("Cross-modal accuracy (%), 95 % interval", fontsize=9)
    return figure


def _numbered(points: pd.DataFrame) -> tuple[Figure, Axes]:
    """Markers with a number each, and the numbers' names beside: names in the plot would lie on one another."""
    widest = max(len(title) for title in points["title"])
    figure = Figure(figsize=(5.4 + 0.085 * widest, max(4.0, 0.9 + 0.235 * len(points))), layout="constrained")
    panel, key = figure.subplots(1, 2, width_ratios=[5.0, 0.5 + 0.085 * widest])
    frame_panel(panel, axis="both")
    key.axis("off")
    key.set(xlim=(0, 1), ylim=(len(points) - 0.5, -0.5))
    for number, point in enumerate(points.to_dict("records")):
        colour, marker = STYLES[MethodKind(point["kind"])]
        panel.plot(point["x"], point["y"], marker, color=colour, markersize=7, markeredgecolor="white", zorder=3)
        key.plot(0.02, number, marker, color=colour, markersize=6, clip_on=False)
        label = f"{number + 1}  {point['title']}"
        key.annotate(label, (0.02, number), (9, 0), textcoords="offset points", fontsize=8, va="center")
    return figure, panel


def _number(panel: Axes, points: pd.DataFrame) -> None:
    """A number at each marker, or several where markers lie on one another; the panel has its scale and its lines."""
    panel.get_xlim(), panel.get_ylim()  # settles the limits
    inverse, size = panel.transAxes.inverted(), np.array([PANEL_WIDTH, 52.0 * panel.figure.get_figheight()])  # type: ignore[union-attr]
    positions = inverse.transform(panel.transData.transform(points[["x", "y"]].to_numpy(dtype=float))) * size
    for label in number_labels([(float(x), float(y)) for x, y in positions]):
        first = points.iloc[label.numbers[0] - 1]
        panel.annotate(
            label.text, (first["x"], first["y"]), label.offset, textcoords="offset points", fontsize=7.5, zorder=4
        )


def _seconds(low: float, high: float) -> list[float]:
    """Ticks from 1, 2 and 5 times powers of ten; between these where costs are much alike."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    ticks = [tick for tick in ticks if low / 1.2 <= tick <= high * 1.2]
    if len(ticks) >= 2:
        return ticks
    return [float(value) for value in MaxNLocator(4).tick_values(low, high) if value > 0]


def _front(panel: Axes, points: pd.DataFrame) -> None:
    """A step line through the merges that no other merge beats in both directions; more is better in both."""
    merges = points[points["kind"].isin([kind.value for kind in MERGED])].sort_values(["x", "y"], ascending=False)
    if len(merges) < 2:
        return
    best = merges[merges["y"] > merges["y"].cummax().shift(fill_value=-np.inf)]
    panel.plot(best["x"].abs(), best["y"], color="#0072B2", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
