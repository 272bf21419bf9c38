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
from esmerge.report.plots.lettering import LINE, WIDTH, widest_line, wrapped
from esmerge.report.plots.numbers import SIZE, number_labels
from esmerge.report.plots.style import STYLES, frame_panel

PANEL = 6.4, 3.9  # inches
LEFT, TOP, BELOW = 0.65, 0.1, 0.65  # inches: beside the panel, above it, and under it for its axis
KEY, GAP = 6.9, 0.07  # of the numbers' names: inches of a line, inches between two
FAR = 3.0  # below the middle of the methods by so many times what the best is above it: too far to be shown
LEAST = 5.0  # percentage points that the best counts as above the middle at least
OVER = "95 % interval over questions"


def retention_figure(table: pd.DataFrame) -> Figure:
    """Retention across, cross-modal accuracy up; dashed: the border of what the merges reach.

    What lies too far to the left stands at the edge with an arrow, and its retention stands in the key.

    Args:
        table: columns ``title, kind, x, x_low, x_high, y, y_low, y_high``, accuracies as shares.
    """
    shares = ["x", "x_low", "x_high", "y", "y_low", "y_high"]
    percent = table.assign(**{name: 100 * table[name] for name in shares})
    far = percent["x"] < _leftmost(percent)
    named = [f"{title}: {x:.1f} %" for title, x in zip(table["title"], percent["x"], strict=True)]
    titles = table["title"].where(~far, pd.Series(named, table.index))
    visible = percent[~far]
    low, high = float(visible["x_low"].clip(lower=_leftmost(percent)).min()), float(visible["x_high"].max())
    span = max(1.0, high - low)
    edge = low - 0.06 * span
    placed = percent.assign(x=percent["x"].where(~far, edge), title=titles)
    figure, panel = _numbered(placed)
    panel.set_xlim(low - (0.1 if far.any() else 0.03) * span, high + 0.03 * span)
    for point in placed[~far].to_dict("records"):
        colour, _ = STYLES[MethodKind(point["kind"])]
        panel.plot([point["x_low"], point["x_high"]], [point["y"]] * 2, color=colour, linewidth=0.8, alpha=0.45)
    _intervals(panel, placed)
    for y in percent["y"][far]:
        arrow = {"arrowstyle": "->", "color": "#666666", "linewidth": 0.9}
        panel.annotate("", (panel.get_xlim()[0], y), (edge, y), arrowprops=arrow)
    _number(panel, placed)
    _front(panel, percent[~far], 1)
    label = f"Retention: accuracy on the specialists' own questions (%), {OVER}"
    label += "; arrows: farther to the left, at what the key says" * bool(far.any())
    panel.set_xlabel(wrapped(label, PANEL[0], 9), fontsize=9)
    panel.set_ylabel(f"Cross-modal accuracy (%), {OVER}", fontsize=9)
    return figure


def cost_figure(table: pd.DataFrame) -> Figure:
    """Seconds of measuring and merging across (logarithmic), accuracy up; dashed: the border of what merges reach.

    Args:
        table: columns ``title, kind, x, y, y_low, y_high``, ``x`` in seconds and accuracies as shares.
    """
    percent = table.assign(**{name: 100 * table[name] for name in ("y", "y_low", "y_high")})
    percent["x"] = percent["x"].clip(lower=0.001)  # below what is stored
    figure, panel = _numbered(percent)
    _intervals(panel, percent)
    panel.set_xscale("log")
    ticks = _seconds(float(percent["x"].min()), float(percent["x"].max()))
    panel.set_xticks(ticks, [f"{value:g}" for value in ticks])
    panel.minorticks_off()
    _number(panel, percent)  # ticks have moved the limits
    _front(panel, percent, -1)
    panel.set_xlabel("Measuring and merging (s)", fontsize=9)
    panel.set_ylabel(f"Cross-modal accuracy (%), {OVER}", fontsize=9)
    return figure


def _leftmost(points: pd.DataFrame) -> float:
    """Where what is too far to the left begins; a floor's place moves it nowhere."""
    methods = points["x"][points["kind"] != MethodKind.FLOOR.value]
    if methods.empty:
        return -math.inf
    middle = float(methods.median())
    return middle - FAR * max(LEAST, float(methods.max()) - middle)


def _numbered(points: pd.DataFrame) -> tuple[Figure, Axes]:
    """Markers with a number each, and the numbers' names below: names in the plot would lie on one another."""
    names = [f"{number}  {title}" for number, title in enumerate(points["title"], 1)]
    columns = min(3, max(2, int(KEY / (widest_line(names, SIZE) + 0.35))), len(names))
    names = [wrapped(name, KEY / columns - 0.35, SIZE).replace(" ", "  ", 1) for name in names]
    length = math.ceil(len(names) / columns)
    heights = [SIZE * LINE * (name.count("\n") + 1) + GAP for name in names]
    tall = max(sum(heights[start : start + length]) for start in range(0, len(names), length))
    width, height = WIDTH, TOP + PANEL[1] + BELOW + tall
    figure = Figure(figsize=(width, height))
    panel = figure.add_axes((LEFT / width, 1 - (TOP + PANEL[1]) / height, PANEL[0] / width, PANEL[1] / height))
    key = figure.add_axes((0.15 / width, 0, KEY / width, tall / height))
    frame_panel(panel, axis="both")
    key.axis("off")
    key.set(xlim=(0, KEY), ylim=(tall, 0))
    for number, point in enumerate(points.to_dict("records")):
        colour, marker = STYLES[MethodKind(point["kind"])]
        panel.plot(point["x"], point["y"], marker, color=colour, markersize=6, markeredgecolor="white", zorder=3)
        column = number // length
        x, y = KEY / columns * column, sum(heights[column * length : number]) + heights[number] / 2
        key.plot(x + 0.06, y, marker, color=colour, markersize=5.5, clip_on=False)
        key.annotate(names[number], (x + 0.06, y), (8, 0), textcoords="offset points", fontsize=SIZE, va="center")
    return figure, panel


def _intervals(panel: Axes, points: pd.DataFrame) -> None:
    """Of accuracy, up and down."""
    for point in points.to_dict("records"):
        colour, _ = STYLES[MethodKind(point["kind"])]
        panel.plot([point["x"]] * 2, [point["y_low"], point["y_high"]], color=colour, linewidth=0.8, alpha=0.45)


def _number(panel: Axes, points: pd.DataFrame) -> None:
    """A number at each marker, or several where markers lie on one another; the panel has its scale and its lines."""
    panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim())  # settles the limits
    corner = panel.transAxes.inverted()
    positions = corner.transform(panel.transData.transform(points[["x", "y"]].to_numpy(dtype=float)))
    size = 72 * PANEL[0], 72 * PANEL[1]
    for label in number_labels([(float(x) * size[0], float(y) * size[1]) for x, y in positions], size):
        first = points.iloc[label.numbers[0] - 1]
        line = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        panel.annotate(
            label.text, (first["x"], first["y"]), label.offset, textcoords="offset points", fontsize=SIZE, zorder=4,
            arrowprops=line if label.is_away else None,
        )  # fmt: skip


def _seconds(low: float, high: float) -> list[float]:
    """Ticks from 1, 2 and 5 times powers of ten; between these where costs are much alike."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    ticks = [tick for tick in ticks if low / 1.2 <= tick <= high * 1.2]
    if len(ticks) >= 2:
        return ticks
    return [float(value) for value in MaxNLocator(4).tick_values(low, high) if value > 0]


def _front(panel: Axes, points: pd.DataFrame, better: int) -> None:
    """The border of what merges reach, in steps: nothing between two of them has been reached.

    Args:
        better: 1 where more is better across, -1 where less is; more is better upwards.
    """
    merges = points[points["kind"].isin([kind.value for kind in MERGED])]
    merges = merges.sort_values(["x", "y"], ascending=[better < 0, False])
    if merges.empty:
        return
    best = merges[merges["y"] > merges["y"].cummax().shift(fill_value=-np.inf)]
    across, up = panel.get_xlim(), panel.get_ylim()
    x = [best["x"].iloc[0], *best["x"], across[0] if better > 0 else across[1]]
    y = [up[0], *best["y"], best["y"].iloc[-1]]
    panel.plot(x, y, color="#0072B2", linewidth=0.9, linestyle=(0, (4, 3)), drawstyle="steps-post", zorder=1)
    panel.set(xlim=across, ylim=up)
