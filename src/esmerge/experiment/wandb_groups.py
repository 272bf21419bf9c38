"""What W&B shows of a sweep beyond its single runs, and runs that were not logged when they ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from esmerge.coefficients.summary import CoefficientSummary, summarise
from esmerge.core.methods import MethodKind
from esmerge.report.figures import write_layer_map
from esmerge.report.load import Row, SweepResults, load_sweep
from esmerge.report.verdict import verdict
from esmerge.storage.tensor_arrays import TensorArrays
from esmerge.tracking.results import run_folders
from esmerge.tracking.store import RunFolder, config_hash
from esmerge.tracking.wandb_log import log_failed_run, log_run
from esmerge.tracking.wandb_record import LoggedRun, is_logged, read_logged
from esmerge.tracking.wandb_run import Identity
from esmerge.tracking.wandb_settings import Tracking
from esmerge.tracking.wandb_shared import OVERVIEW, PROBES, SEEDS, log_over_seeds, log_overview


def log_missing(folder: Path, tracking: Tracking) -> list[LoggedRun]:
    """Log offline, from what is stored, whatever no W&B run shows, or none that can still be sent.

    Args:
        folder: of a sweep, or the one beside the cache that holds the records of trainings.

    Returns:
        the W&B runs of the sweep.
    """
    if not run_folders(folder):  # a folder of trainings, which are logged while they last
        return [logged for logged in map(read_logged, sorted(folder.glob("*"))) if logged is not None]
    offline = replace(tracking, mode="offline")
    sweep = load_sweep(folder)
    for run in run_folders(folder):
        if run.name not in sweep.failures and not is_logged(run.path):
            _log_again(run, offline)
    log_sweep(folder, offline)
    records = [run.path for run in run_folders(folder)] + [folder / OVERVIEW]
    records += [record for name in (PROBES, SEEDS) for record in sorted((folder / name).glob("*"))]
    return [logged for logged in map(read_logged, records) if logged is not None]


def log_sweep(folder: Path, tracking: Tracking) -> None:
    """Log what is there when the runs of a sweep are over: killed runs as failed, methods over seeds, the figures.

    Raises:
        StoreError: the sweep folder is damaged.
    """
    sweep = load_sweep(folder)
    for name in sweep.failures:
        _log_killed(sweep.run(name), tracking)
    log_methods_over_seeds(sweep, tracking)
    figures = sorted((folder / "figures").glob("*.png"))
    if figures:
        log_overview(tracking, folder, figures, _plain_rows(sweep.results), verdict(sweep))


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
    return _plain_rows(table)


def _log_over_seeds(sweep: SweepResults, row: Row, tracking: Tracking) -> None:
    rows = over_seeds(sweep.results[sweep.results["run"].isin(row.runs.values())])
    axes = {"method": row.method, "granularity": row.granularity, "merge_space": row.merge_space}
    config = {key: value for key, value in sweep.run(row.key).read_config().items() if key != "seed"}
    group_config: Mapping[str, object] = {**config, "seeds": sorted(row.runs)}
    content = config_hash({"rows": rows, "config": group_config})
    log_over_seeds(tracking, sweep.folder / SEEDS / row.key, group_config, row.title, axes, rows, content)


def _log_killed(run: RunFolder, tracking: Tracking) -> None:
    """A run that failed has said so itself; one that was killed could not."""
    status = run.current()
    is_run = (run.path / "method.json").exists()  # a job that was refused has none
    if is_run and status.state == "failed" and not is_logged(run.path, failed=True):
        identity = Identity(run.path.parent.name, run.name, _job_type(run))
        log_failed_run(tracking, run, run.read_config(), identity, str(status.reason))


def _log_again(run: RunFolder, tracking: Tracking) -> None:
    summary = _summary(run)
    images: dict[str, Path] = {}
    if summary is not None:
        images["layer coefficients"] = run.path / "layer_coefficients.png"
        write_layer_map((summary.experts, summary.layer_shares), run.name, images["layer coefficients"])
    coefficients = None if summary is None else (run.coefficients, summary)
    details = (run.read_config(), run.path.parent.name, run.name, _job_type(run), _plain_rows(run.read_metrics()))
    log_run(tracking, run, *details, images, coefficients)


def _job_type(run: RunFolder) -> str:
    return "reference" if run.read_method().kind in (MethodKind.FLOOR, MethodKind.REFERENCE) else "merge"


def _plain_rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _summary(run: RunFolder) -> CoefficientSummary | None:
    return summarise(TensorArrays(run.coefficients)) if run.coefficients.exists() else None
