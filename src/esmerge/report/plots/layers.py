"""How the experts share the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from esmerge.report.plots.lettering import LINE, SMALLEST, WIDTH, line_count, widest_line, wrapped

BAR = 1.1  # inches that the colour bar and the gaps take
LayerShares = tuple[Sequence[str], NDArray[np.float64]]
"""Experts and their weight in each layer, (experts, layers)."""


def layer_figure(panels: Mapping[str, LayerShares]) -> Figure:
    """One panel per run: experts x layers, coloured by weight relative to an equal share.

    Args:
        panels: title -> (expert names, weights (experts, layers)).
    """
    layers = max(weights.shape[1] for _, weights in panels.values())
    experts = max(weights.shape[0] for _, weights in panels.values())
    width = min(WIDTH, max(5.0, 2.2 + 0.42 * layers))
    room = width - BAR - widest_line([name for names, _ in panels.values() for name in names], 8)
    titles = [wrapped(title, room, 9) for title in panels]
    heights = [0.5 + 9 * LINE * line_count([title]) + 0.3 * experts for title in titles]
    figure = Figure(figsize=(width, 0.6 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    share = 1 / experts
    reach = max(0.02, max(float(np.abs(weights - share).max()) for _, weights in panels.values()))
    norm = TwoSlopeNorm(share, vmin=share - reach, vmax=share + reach)
    image = None
    for panel, title, (names, weights) in zip(axes, titles, panels.values(), strict=True):
        image = panel.imshow(weights, aspect="auto", cmap="PuOr_r", norm=norm)
        panel.set_title(title, fontsize=9, loc="left")
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.tick_params(length=0, labelsize=8)
        panel.set_xticks(np.arange(-0.5, weights.shape[1]), minor=True)
        panel.set_yticks(np.arange(-0.5, weights.shape[0]), minor=True)
        panel.grid(which="minor", color="white", linewidth=1.5)
        panel.tick_params(which="minor", length=0)
        panel.spines[:].set_visible(False)
        if layers <= 16:
            _annotate(panel, weights, norm)
    axes[-1].set_xticks(range(0, layers, 1 if layers <= 16 else 4))
    axes[-1].set_xlabel("Decoder layer", fontsize=9)
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes), pad=0.02, fraction=0.05)
        bar.set_label(f"Mean merging weight (equal share {share:.2f})", fontsize=8)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
        bar.ax.set_ylim(max(0.0, share - reach), min(1.0, share + reach))  # colours reach further than weights can
    return figure


def _annotate(panel: Axes, weights: NDArray[np.float64], norm: TwoSlopeNorm) -> None:
    for row, column in np.ndindex(weights.shape):
        strong = abs(float(norm(weights[row, column])) - 0.5) > 0.32
        text, colour = f"{weights[row, column]:.2f}", "white" if strong else "#222222"
        panel.text(column, row, text, ha="center", va="center", fontsize=SMALLEST, color=colour)
