"""What W&B shows of a sweep beyond its single runs: methods over their seeds, and runs that were not logged before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from esmerge.coefficients.summary import CoefficientSummary, summarise
from esmerge.core.methods import MethodKind
from esmerge.report.figures import write_layer_map
from esmerge.report.load import Row, SweepResults, load_sweep
from esmerge.storage.tensor_arrays import TensorArrays
from esmerge.tracking.results import run_folders
from esmerge.tracking.store import RunFolder, config_hash
from esmerge.tracking.wandb_log import log_over_seeds, log_run
from esmerge.tracking.wandb_record import LoggedRun, read_logged
from esmerge.tracking.wandb_settings import Tracking

SEEDS = "seeds"  # in a sweep folder: which W&B run shows a method over its seeds


def log_missing(folder: Path, tracking: Tracking) -> list[LoggedRun]:
    """Log offline, from what is stored, every finished run that has no W&B run, and every method over its seeds.

    Returns:
        the W&B runs of the sweep.
    """
    offline = replace(tracking, mode="offline")
    sweep = load_sweep(folder)
    done = [run for run in run_folders(folder) if run.name not in sweep.failures]
    for run in done:
        if read_logged(run.path) is None:
            _log_again(run, offline)
    log_methods_over_seeds(sweep, offline)
    records = [run.path for run in done] + sorted((folder / SEEDS).glob("*"))
    return [logged for logged in map(read_logged, records) if logged is not None]


def log_methods_over_seeds(sweep: SweepResults, tracking: Tracking) -> None:
    """One W&B run for each method with several seeds; one that shows the same numbers already is left alone."""
    for row in sweep.rows:
        if len(row.runs) > 1:
            _log_over_seeds(sweep, row, tracking)


def over_seeds(results: pd.DataFrame) -> list[dict[str, object]]:
    """Rows ``benchmark, metric, mean, sd, seeds``; the standard deviation is the sample's.

    Args:
        results: rows of ``results.csv`` of one method's runs.
    """
    groups = results.groupby(["benchmark", "metric"], sort=False)["value"]
    table = groups.agg(mean="mean", sd="std", seeds="count").reset_index()
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _log_over_seeds(sweep: SweepResults, row: Row, tracking: Tracking) -> None:
    rows = over_seeds(sweep.results[sweep.results["run"].isin(row.runs.values())])
    axes = {"method": row.method, "granularity": row.granularity, "merge_space": row.merge_space}
    config = {key: value for key, value in sweep.run(row.key).read_config().items() if key != "seed"}
    shown: Mapping[str, object] = {**config, "seeds": sorted(row.runs)}
    content = config_hash({"rows": rows, "config": shown})
    log_over_seeds(tracking, sweep.folder / SEEDS / row.key, shown, row.title, axes, rows, content)


def _log_again(run: RunFolder, tracking: Tracking) -> None:
    kind, summary = run.read_method().kind, _summary(run)
    images: dict[str, Path] = {}
    if summary is not None:
        images["layer coefficients"] = run.path / "layer_coefficients.png"
        write_layer_map((summary.experts, summary.layer_shares), run.name, images["layer coefficients"])
    rows = [{str(key): value for key, value in row.items()} for row in run.read_metrics().to_dict("records")]
    job_type = "reference" if kind in (MethodKind.FLOOR, MethodKind.REFERENCE) else "merge"
    coefficients = None if summary is None else (run.coefficients, summary)
    log_run(tracking, run, run.read_config(), run.path.parent.name, run.name, job_type, rows, images, coefficients)


def _summary(run: RunFolder) -> CoefficientSummary | None:
    return summarise(TensorArrays(run.coefficients)) if run.coefficients.exists() else None
