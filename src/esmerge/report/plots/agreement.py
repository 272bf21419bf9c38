"""How often two methods give the same answer to the same question."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure


def agreement_figure(table: pd.DataFrame) -> Figure:
    """A square of methods: the share of questions that two answer alike, in %.

    Args:
        table: columns ``title, other, agreement, n``, one row per ordered pair; agreement is a share.
    """
    titles = list(table["title"].unique())
    shares = 100 * table.pivot(index="title", columns="other", values="agreement").loc[titles, titles].to_numpy()
    widest = max(len(title) for title in titles)
    side = 0.42 * len(titles)
    figure = Figure(figsize=(2.0 + 0.08 * widest + side, 0.8 + 0.07 * widest + side), layout="constrained")
    panel = figure.subplots()
    shown = np.where(np.eye(len(titles), dtype=bool), np.nan, shares)
    lowest, highest = (float(np.nanmin(shown)), float(np.nanmax(shown))) if np.isfinite(shown).any() else (0.0, 100.0)
    image = panel.imshow(shown, cmap="cividis", vmin=lowest, vmax=max(highest, lowest + 1))
    for row, column in np.ndindex(shown.shape):
        if np.isfinite(shown[row, column]):
            dark = shown[row, column] < (lowest + max(highest, lowest + 1)) / 2
            colour = "white" if dark else "black"
            panel.text(column, row, f"{shown[row, column]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    panel.set_yticks(range(len(titles)), titles, fontsize=8)
    panel.set_xticks(range(len(titles)), titles, fontsize=8, rotation=90)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panel, pad=0.02, fraction=0.05)
    bar.set_label("Questions answered alike (%)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return figure
