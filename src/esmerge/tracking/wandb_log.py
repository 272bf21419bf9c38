"""Weights & Biases: one run per merge and per reference, grouped by sweep.

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
from esmerge.tracking.lineage import Lineage, read_lineage
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_artifacts import log_products
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
from esmerge.tracking.wandb_shared import log_probe

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
    """Log one finished run, and the probe that it reads if no run of the sweep has logged it.

    A run that was logged before, as failed or from another folder, is the same W&B run again.

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
    try:
        lineage = read_lineage(run_folder.path)
        log_probe(settings, mode, run_folder.path.parent, lineage, config)
        identity = _identity(run_folder.path, Identity(group, name, job_type, tags(rows)))
        with wandb_run(settings, mode, parent, identity, config) as run:
            _fill(run, run_folder, settings.predictions, rows, images, coefficients)
            _log_lineage(run, run_folder, lineage, settings.upload)
        write_logged(run_folder.path, LoggedRun(run.id, mode, str(run.settings.sync_dir)))
    except Exception as error:  # whatever the client or the server does, the results are on disk already
        run_folder.note_tracking_error(_give_up(name, error))
    return time.perf_counter() - clock


def log_failed_run(
    settings: Tracking, run_folder: RunFolder, config: Mapping[str, object], identity: Identity, reason: str
) -> None:
    """Log a run that failed: W&B shows it as failed, and its summary says why, until it is made again."""
    parent = settings.parent(run_folder.path.parent)
    mode = client_mode(settings.mode, parent)
    if mode == "disabled":
        return
    try:
        run_identity = _identity(run_folder.path, identity)
        with wandb_run(settings, mode, parent, run_identity, config, code=1) as run:
            run.summary.update({"failure": redacted(reason)})
        write_logged(run_folder.path, LoggedRun(run.id, mode, str(run.settings.sync_dir), failed=True))
    except Exception as error:
        _give_up(identity.name, error)


def _identity(record: Path, identity: Identity) -> Identity:
    """With the id under which the run was logged before, if it was."""
    stored = read_logged(record)
    return identity if stored is None else replace(identity, id=stored.id)


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
    media: dict[str, object] = {title: wandb.Image(str(path)) for title, path in images.items()}
    if answers := prediction_rows(run_folder, predictions):
        media["predictions"] = table(answers, PREDICTION_COLUMNS)
    run.log({"metrics": table(rows), **media})
    if coefficients is not None:
        _, summary = coefficients
        run.log(histograms(summary))
        _draw_along_layers(run, layer_steps(summary, run_folder.read_layer_distances()))


def _draw_along_layers(run: wandb.Run, steps: Sequence[Mapping[str, float]]) -> None:
    """Charts whose horizontal axis is the layer, which stay out of the summary."""
    run.define_metric(LAYER, hidden=True)
    for chart in ("coefficient", "distance", "increment"):
        run.define_metric(f"{chart}/*", step_metric=LAYER, summary="none")
    for step in steps:
        run.log(dict(step))


def _log_lineage(run: wandb.Run, run_folder: RunFolder, lineage: Lineage, upload: float | None) -> None:
    """Artifacts last: what goes wrong with them takes no number from the run."""
    try:
        log_products(run, run_folder, lineage, upload)
    except Exception as error:
        reason = redacted(f"{type(error).__name__}: {error}")
        warnings.warn(f"run {run_folder.name} has no artifacts on W&B ({reason})", stacklevel=3)
        run_folder.note_tracking_error(f"artifacts: {reason}")
