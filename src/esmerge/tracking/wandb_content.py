"""What a W&B run shows, made of a run's records: tables, numbers by name, and charts along the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from esmerge.coefficients.summary import CoefficientSummary
from esmerge.tracking.run_files import RESULT_COLUMNS
from esmerge.tracking.store import RunFolder

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment

TAG_AXES = ("method", "granularity", "merge_space", "probe")
LONGEST_TAG = 64  # W&B refuses longer ones
LAYER = "layer"  # the step of the charts along depth
PREDICTION_COLUMNS = ("benchmark", "id", "label", "prediction", "correct", "score", "raw_answer")

Row = Mapping[str, object]


def headline(rows: Sequence[Row]) -> dict[str, float]:
    """``benchmark/metric`` -> value, without the empty ones."""
    values = {f"{row['benchmark']}/{row['metric']}": row["value"] for row in rows}
    return {
        name: float(value) for name, value in values.items() if isinstance(value, (int, float)) and np.isfinite(value)
    }


def tags(rows: Sequence[Row]) -> list[str]:
    """The values of the axes that runs are filtered by."""
    values = {str(row[axis]) for row in rows for axis in TAG_AXES if row.get(axis)}
    return sorted(value[:LONGEST_TAG] for value in values)


def table(rows: Sequence[Row], columns: Sequence[str] = RESULT_COLUMNS) -> wandb.Table:
    """Rows as W&B shows them; a cell that is absent or not finite is empty."""
    import wandb

    cells: list[Iterable[object]] = [[_cell(row.get(column)) for column in columns] for row in rows]
    return wandb.Table(columns=list(columns), data=cells, allow_mixed_types=True)


def prediction_rows(run: RunFolder, limit: int) -> list[dict[str, object]]:
    """The first answers to each benchmark, the same questions in every run.

    Args:
        limit: rows per benchmark.
    """
    rows: list[dict[str, object]] = []
    for benchmark in run.read_benchmarks() if limit else ():
        frame = run.read_predictions(benchmark)
        for row in [] if frame is None else frame.head(limit).to_dict("records"):
            texts = {str(column): value for column, value in row.items()}
            rows.append({**texts, "benchmark": benchmark, "correct": texts["prediction"] == texts["label"]})
    return rows


def layer_steps(summary: CoefficientSummary, distances: pd.DataFrame | None) -> list[dict[str, float]]:
    """What is logged at each layer: coefficients by expert, distances and their increments by expert and modality.

    Args:
        distances: as ``RunFolder.read_layer_distances`` gives them.
    """
    steps: dict[int, dict[str, float]] = {}
    for expert, shares in zip(summary.experts, summary.layer_shares, strict=True):
        for layer, share in enumerate(shares):
            steps.setdefault(layer, {})[f"coefficient/{expert}"] = float(share)
    for row in [] if distances is None else distances.to_dict("records"):
        for quantity in ("distance", "increment"):
            name = f"{quantity}/{row['expert']} on {row['modality']}"
            steps.setdefault(int(row[LAYER]), {})[name] = float(row[quantity])
    return [{LAYER: layer, **values} for layer, values in sorted(steps.items())]


def histograms(summary: CoefficientSummary) -> dict[str, wandb.Histogram]:
    """How often each merging weight occurs, by expert."""
    import wandb

    counts = summary.counts.items()
    return {f"weights/{expert}": wandb.Histogram(np_histogram=(count, summary.edges)) for expert, count in counts}


def _cell(value: object) -> object:
    """Plain Python values; NaN becomes None, an empty cell."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain
