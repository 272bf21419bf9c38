"""How often two methods give the same answer to the same question."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esmerge.report.plots.lettering import LINE, WIDTH, line_count, widest_line, wrapped

SIZE = 8.0  # of the methods' names
NAMES, BAR = 2.3, 1.1  # inches: a name's longest line, and what the colour bar and the gaps take


def agreement_figure(table: pd.DataFrame) -> Figure:
    """Methods against methods, numbered: the share of questions that two answer alike, in %.

    Args:
        table: columns ``title, other, agreement, n``, one row per ordered pair; agreement is a share.
    """
    titles = list(table["title"].unique())
    shares = 100 * table.pivot(index="title", columns="other", values="agreement").loc[titles, titles].to_numpy()
    names = [wrapped(f"{number}  {title}", NAMES, SIZE) for number, title in enumerate(titles, 1)]
    labels = widest_line(names, SIZE) + BAR
    cell = min(0.45, (WIDTH - labels) / len(titles))
    height = max(0.26, cell * 0.7, SIZE * LINE * line_count(names))
    figure = Figure(figsize=(max(4.0, labels + cell * len(titles)), 0.6 + height * max(5, len(titles))))
    figure.set_layout_engine("constrained")
    panel = figure.subplots()
    cells = np.where(np.eye(len(titles), dtype=bool), np.nan, shares)
    lowest, highest = (float(np.nanmin(cells)), float(np.nanmax(cells))) if np.isfinite(cells).any() else (0.0, 100.0)
    image = panel.imshow(cells, cmap="cividis", aspect="auto", vmin=lowest, vmax=max(highest, lowest + 1))
    for row, column in np.ndindex(cells.shape):
        if np.isfinite(cells[row, column]):
            dark = cells[row, column] < (lowest + max(highest, lowest + 1)) / 2
            colour = "white" if dark else "black"
            panel.text(column, row, f"{cells[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    panel.set_yticks(range(len(titles)), names, fontsize=SIZE)
    panel.set_xticks(range(len(titles)), [str(number) for number in range(1, len(titles) + 1)], fontsize=SIZE)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panel, pad=0.02, fraction=0.05)
    bar.set_label("Questions answered alike (%)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return figure
