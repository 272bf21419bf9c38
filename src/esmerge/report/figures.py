"""Two figures: methods side by side, and how the experts share the layers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from esmerge.coefficients.summary import summarise
from esmerge.core.methods import MethodKind
from esmerge.report.load import SweepResults
from esmerge.report.methods import BLOCKS
from esmerge.report.statistics import cell, heading, headline
from esmerge.storage.files import replacing
from esmerge.storage.tensor_arrays import TensorArrays

# kind -> colour and marker; Okabe and Ito's palette, which readers with any colour vision can tell apart
STYLES: Mapping[MethodKind, tuple[str, str]] = {
    MethodKind.FLOOR: ("#999999", "v"),
    MethodKind.REFERENCE: ("#444444", "s"),
    MethodKind.MERGE: ("#0072B2", "o"),
    MethodKind.ES: ("#D55E00", "D"),
    MethodKind.CONTROL: ("#CC79A7", "^"),
    MethodKind.TASK_AWARE: ("#009E73", "P"),
}
DPI = 160
LayerShares = tuple[Sequence[str], NDArray[np.float64]]
"""Experts and their weight in each layer, (experts, layers)."""


def write_figures(sweep: SweepResults) -> list[Path]:
    """Write ``figures/methods.png`` and, where a run stored coefficients, ``figures/layer_weights.png``."""
    folder, written = sweep.folder / "figures", []
    if len(sweep.rows):
        written.append(_save(methods_figure(sweep), folder / "methods.png"))
    panels = layer_panels(sweep)
    if panels:
        written.append(_save(layer_figure(panels), folder / "layer_weights.png"))
    return written


def layer_panels(sweep: SweepResults) -> dict[str, LayerShares]:
    """Title -> experts and their weights, one per ES row; the mean over seeds where the seeds are alike."""
    panels = {}
    for row in sweep.of_kind(MethodKind.ES):
        paths = {seed: sweep.run(run).coefficients for seed, run in row.runs.items()}
        by_seed = {seed: layer_weights(path) for seed, path in paths.items() if path.exists()}
        for seed in [seed for seed, (_, weights) in by_seed.items() if not np.isfinite(weights).all()]:
            warnings.warn(f"{paths[seed]} holds NaN or infinite weights: no figure shows them", stacklevel=2)
            del by_seed[seed]
        if len({(*names, weights.shape) for names, weights in by_seed.values()}) == 1 < len(by_seed):
            names = next(iter(by_seed.values()))[0]
            mean = np.mean([weights for _, weights in by_seed.values()], axis=0)
            panels[f"{row.title}, mean of {len(by_seed)} seeds"] = (names, mean)
        else:
            panels |= {
                row.title if len(by_seed) == 1 else f"{row.title}, seed {seed}": shares
                for seed, shares in by_seed.items()
            }
    return panels


def write_layer_map(shares: LayerShares, title: str, path: Path) -> Path:
    """The heat map of one run, e.g. for its tracker page."""
    return _save(layer_figure({title: shares}), path)


def methods_figure(sweep: SweepResults) -> Figure:
    """One panel per benchmark family: mean accuracy with its interval, and each benchmark as a faint dot."""
    columns, rows = headline(sweep), list(sweep.rows)
    widest = max(len(row.title) for row in rows)
    figure = Figure(figsize=(0.09 * widest + 3.1 * len(columns), 1.5 + 0.3 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=True):
        for y, row in enumerate(rows):
            colour, marker = STYLES[row.kind]
            accuracy = cell(sweep, row, column)
            if accuracy is None:
                continue
            for benchmark in column.benchmarks if column.is_mean else ():
                seeds = [sweep.accuracy(run, benchmark) for run in row.runs.values()]
                mean = np.mean([seed.value for seed in seeds if seed])
                panel.plot(100 * mean, y + 0.27, ".", color=colour, alpha=0.45, markersize=4.5, zorder=1)
            panel.plot([100 * accuracy.low, 100 * accuracy.high], [y, y], color=colour, linewidth=1.8, zorder=2)
            panel.plot(100 * accuracy.value, y, marker, color=colour, markersize=6.5, markeredgecolor="white", zorder=3)
        _frame_panel(panel, heading(column))
    _name_rows(panels[0], sweep)
    _separate_blocks(panels, sweep)
    figure.supxlabel("Accuracy (%), 95 % interval; faint dots: single benchmarks", fontsize=9)
    handles = [
        Line2D([], [], color=STYLES[block][0], marker=STYLES[block][1], linestyle="", markersize=6, label=BLOCKS[block])
        for block in dict.fromkeys(row.kind for row in rows)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def layer_figure(panels: Mapping[str, LayerShares]) -> Figure:
    """One panel per run: experts x layers, coloured by weight relative to an equal share.

    Args:
        panels: title -> (expert names, weights (experts, layers)).
    """
    layers = max(weights.shape[1] for _, weights in panels.values())
    experts = max(weights.shape[0] for _, weights in panels.values())
    size = max(5.0, 2.2 + 0.42 * layers), 0.6 + len(panels) * (0.8 + 0.36 * experts)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    share = 1 / experts
    reach = max(0.02, max(float(np.abs(weights - share).max()) for _, weights in panels.values()))
    norm = TwoSlopeNorm(share, vmin=share - reach, vmax=share + reach)
    image = None
    for panel, (title, (names, weights)) in zip(axes, panels.items(), strict=True):
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
    return figure


def layer_weights(path: Path) -> LayerShares:
    """Each expert's share of every layer, from stored coefficients, one tensor in memory at a time."""
    summary = summarise(TensorArrays(path))
    return summary.experts, summary.layer_shares


def _frame_panel(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=9)
    panel.grid(axis="x", color="#dddddd", linewidth=0.7)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _name_rows(panel: Axes, sweep: SweepResults) -> None:
    panel.set_yticks(range(len(sweep.rows)), [row.title for row in sweep.rows], fontsize=8)
    panel.set_ylim(len(sweep.rows) - 0.4, -0.6)


def _separate_blocks(panels: Sequence[Axes], sweep: SweepResults) -> None:
    kinds = [row.kind for row in sweep.rows]
    for y in range(1, len(kinds)):
        if kinds[y] != kinds[y - 1]:
            for panel in panels:
                panel.axhline(y - 0.5, color="#bbbbbb", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)


def _annotate(panel: Axes, weights: NDArray[np.float64], norm: TwoSlopeNorm) -> None:
    for row, column in np.ndindex(weights.shape):
        strong = abs(float(norm(weights[row, column])) - 0.5) > 0.32
        text = f"{weights[row, column]:.2f}"
        panel.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if strong else "#222222")


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI)
    return path
