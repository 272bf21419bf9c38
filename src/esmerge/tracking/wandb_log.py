"""Weights & Biases: one run per merge and per reference, grouped by sweep, and one per method over its seeds.

Offline is the default and needs no account, no network and no prompt. Files lie under ``<sweep>/wandb`` and can be
sent later. Tracking never decides about a result: a failure is reported and recorded, no more.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from esmerge.coefficients.summary import CoefficientSummary
from esmerge.core.secrets import redacted
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_client import client_mode
from esmerge.tracking.wandb_content import (
    LAYER,
    PREDICTION_COLUMNS,
    headline,
    histograms,
    layer_steps,
    prediction_rows,
    table,
    tags,
)
from esmerge.tracking.wandb_record import LoggedRun, read_logged, write_logged
from esmerge.tracking.wandb_run import Identity, restart_client, wandb_run
from esmerge.tracking.wandb_settings import Tracking

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment


def log_run(
    settings: Tracking,
    run_folder: RunFolder,
    config: Mapping[str, object],
    group: str,
    name: str,
    job_type: str,
    rows: Sequence[Mapping[str, object]],
    images: Mapping[str, Path],
    coefficients: tuple[Path, CoefficientSummary] | None = None,
) -> float:
    """Log one finished run.

    Args:
        run_folder: records ``tracking_error`` if logging fails.
        config: the resolved configuration.
        group: the sweep's name.
        name: the run's name.
        job_type: ``merge`` or ``reference``.
        rows: the run's rows of ``results.csv``.
        images: title -> PNG.
        coefficients: the stored merging weights and their summary, if the method has them.

    Returns:
        Seconds spent; 0 when disabled.
    """
    clock, parent = time.perf_counter(), settings.parent(run_folder.path.parent)
    mode = client_mode(settings.mode, parent)
    if mode == "disabled":
        return 0.0
    identity = Identity(group, name, job_type, tags(rows))
    try:
        with wandb_run(settings, mode, parent, identity, config) as run:
            _fill(run, run_folder, settings.predictions, rows, images, coefficients)
        write_logged(run_folder.path, LoggedRun(run.id, mode, str(run.settings.sync_dir)))
    except Exception as error:  # whatever the client or the server does, the results are on disk already
        run_folder.note_tracking_error(_give_up(name, error))
    return time.perf_counter() - clock


def log_failed_run(
    settings: Tracking, run_folder: RunFolder, config: Mapping[str, object], identity: Identity, reason: str
) -> None:
    """Log a run that failed: W&B shows it as failed, and its summary says why."""
    parent = settings.parent(run_folder.path.parent)
    mode = client_mode(settings.mode, parent)
    if mode == "disabled":
        return
    try:
        with wandb_run(settings, mode, parent, identity, config, code=1) as run:
            run.summary.update({"failure": redacted(reason)})
    except Exception as error:
        _give_up(identity.name, error)


def log_over_seeds(
    settings: Tracking,
    record: Path,
    config: Mapping[str, object],
    name: str,
    axes: Mapping[str, object],
    rows: Sequence[Mapping[str, object]],
    content: str,
) -> None:
    """Log a method over its seeds, unless the W&B run that ``record`` names shows the same.

    Args:
        record: a folder ``<sweep>/seeds/<method>``.
        axes: the method's values on the axes of ``results.csv``.
        rows: ``benchmark, metric, mean, sd, seeds``.
        content: hash of what is shown.
    """
    sweep, stored = record.parents[1], read_logged(record)
    parent = settings.parent(sweep)
    mode = client_mode(settings.mode, parent)
    if mode == "disabled" or (stored is not None and stored.content == content):
        return
    identity = Identity(sweep.name, name, "seeds", tags([axes]))
    if stored is not None:  # the same W&B run shows what is new
        identity = replace(identity, id=stored.id)
    try:
        with wandb_run(settings, mode, parent, identity, config) as run:
            run.summary.update(headline([{**row, "value": row["mean"]} for row in rows]))
            run.summary.update(headline([{**row, "metric": f"{row['metric']} sd", "value": row["sd"]} for row in rows]))
            run.log({"over seeds": table(rows, list(rows[0]))})
        write_logged(record, LoggedRun(run.id, mode, str(run.settings.sync_dir), content))
    except Exception as error:
        _give_up(name, error)


def _give_up(name: str, error: Exception) -> str:
    """Say that a run was not tracked; returns the reason."""
    reason = redacted(f"{type(error).__name__}: {error}")
    restart_client()
    warnings.warn(f"run {name} was not tracked by W&B ({reason}); its results are stored regardless", stacklevel=3)
    return reason


def _fill(
    run: wandb.Run,
    run_folder: RunFolder,
    predictions: int,
    rows: Sequence[Mapping[str, object]],
    images: Mapping[str, Path],
    coefficients: tuple[Path, CoefficientSummary] | None,
) -> None:
    import wandb

    run.summary.update(headline(rows))
    shown: dict[str, object] = {title: wandb.Image(str(path)) for title, path in images.items()}
    if answers := prediction_rows(run_folder, predictions):
        shown["predictions"] = table(answers, PREDICTION_COLUMNS)
    run.log({"metrics": table(rows), **shown})
    if coefficients is not None:
        path, summary = coefficients
        run.log(histograms(summary))
        _draw_along_layers(run, layer_steps(summary, run_folder.read_layer_distances()))
        artifact = wandb.Artifact(f"coefficients-{run.id}", type="coefficients")
        artifact.add_file(str(path), name="coefficients.safetensors")
        run.log_artifact(artifact)


def _draw_along_layers(run: wandb.Run, steps: Sequence[Mapping[str, float]]) -> None:
    """Charts whose horizontal axis is the layer, which stay out of the summary."""
    run.define_metric(LAYER, hidden=True)
    for chart in ("coefficient", "distance", "increment"):
        run.define_metric(f"{chart}/*", step_metric=LAYER, summary="none")
    for step in steps:
        run.log(dict(step))
