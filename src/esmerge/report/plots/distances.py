"""How far each expert moves each modality, layer by layer: what the layer-wise coefficients are computed from."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from esmerge.report.plots.lettering import WIDTH, put_legend, wrapped
from esmerge.report.plots.style import frame_panel, series

MEASURES = {"distance": "SWD from the backbone", "increment": "Increment per layer"}


def distances_figure(table: pd.DataFrame) -> Figure:
    """One column per modality; distance above, increment below; one line per expert, its own modality solid.

    Args:
        table: columns ``probe, seed, expert, modality, own, layer, distance, increment``; lines are means over seeds,
            each seed stands behind them in a faint line.
    """
    probes, modalities = table["probe"].unique(), table["modality"].unique()
    styles = series(list(table["expert"].unique()))
    width = min(WIDTH, max(6.0, 1.0 + 2.7 * len(modalities)))
    column = (width - 0.8) / len(modalities)
    figure = Figure(figsize=(width, 0.9 + 3.6 * len(probes)), layout="constrained")
    grid = figure.subplots(2 * len(probes), len(modalities), sharex=True, sharey="row", squeeze=False)
    for i, probe in enumerate(probes):
        for j, modality in enumerate(modalities):
            part = table[(table["probe"] == probe) & (table["modality"] == modality)]
            for k, measure in enumerate(MEASURES):
                title = f"{modality} tokens" + f" ({probe})" * (len(probes) > 1) if k == 0 else ""
                _draw(grid[2 * i + k, j], part, measure, styles)
                frame_panel(grid[2 * i + k, j], wrapped(title, column - 0.15, 9))
        for k, label in enumerate(MEASURES.values()):
            grid[2 * i + k, 0].set_ylabel(label, fontsize=9)
    grid[0, 0].xaxis.set_major_locator(MaxNLocator(max(2, min(8, int(column / 0.25))), integer=True))
    figure.supxlabel("Decoder layer", fontsize=9)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, label=f"{expert} specialist")
        for expert, (colour, marker) in styles.items()
    ]
    handles.append(Line2D([], [], color="#666666", linestyle=(0, (3, 2)), linewidth=1.1, label="not its own modality"))
    put_legend(figure, handles)
    return figure


def _draw(panel: Axes, part: pd.DataFrame, measure: str, styles: dict[str, tuple[str, str]]) -> None:
    if measure == "increment":
        panel.axhline(0, color="#999999", linewidth=0.8, zorder=1)
    for expert, lines in part.groupby("expert", sort=False):
        colour, marker = styles[str(expert)]
        is_own = bool(lines["own"].iloc[0])
        seeds = lines.groupby("seed", sort=False)
        if len(seeds) > 1:
            for _, single in seeds:
                panel.plot(single["layer"], single[measure], color=colour, alpha=0.25, linewidth=0.8, zorder=2)
        mean = lines.groupby("layer")[measure].mean()
        dash = "-" if is_own else (0, (3, 2))
        width = 1.8 if is_own else 1.1
        panel.plot(mean.index, mean, marker=marker, color=colour, linestyle=dash, linewidth=width, markersize=3.5)
