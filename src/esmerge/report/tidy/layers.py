"""Each expert's share of every layer, from stored coefficients."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from esmerge.coefficients.summary import summarise
from esmerge.report.load import SweepResults
from esmerge.report.plots.layers import LayerShares
from esmerge.report.tidy.weights import shown
from esmerge.storage.tensor_arrays import TensorArrays

MOST_MAPS = 8  # rows of ES-Merging in a figure


def layer_panels(sweep: SweepResults) -> dict[str, LayerShares]:
    """Title -> experts and their weights, one per ES row; the mean over seeds where the seeds are alike."""
    panels = {}
    for row in shown(sweep, MOST_MAPS):
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


def layer_weights(path: Path) -> LayerShares:
    """Each expert's share of every layer, from stored coefficients, one tensor in memory at a time."""
    summary = summarise(TensorArrays(path))
    return summary.experts, summary.layer_shares
