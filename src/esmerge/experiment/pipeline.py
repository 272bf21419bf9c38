"""Carrying runs out: each in its own folder, skipped if it is done, recorded if it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import Timeout

from esmerge.core.errors import NotApplicable
from esmerge.core.progress import progress
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.evaluation.metrics import metric_rows
from esmerge.experiment.merge import merged
from esmerge.experiment.plan import RunSpec
from esmerge.experiment.session import Session
from esmerge.experiment.tune import deciding
from esmerge.report.figures import write_layer_map
from esmerge.storage.files import write_table
from esmerge.tasks.load import terms
from esmerge.tracking.provenance import provenance
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_log import log_run

REJECT_COLUMNS = ["row", "reason"]
Ask = Callable[[Benchmark], pd.DataFrame]


def execute_all(specs: list[RunSpec], session: Session, folder: Path) -> list[str]:
    """Carry out every run that is not done yet; returns the names of those that failed.

    A run that another process is working on is left for last, so that processes share the work.
    """
    waiting = [spec for spec in specs if not _try(spec, session, folder, timeout=0)]
    for spec in waiting:
        _try(spec, session, folder, timeout=-1)
    return [spec.name for spec in specs if RunFolder(folder / spec.name).status().state == "failed"]


def write_rejects(folder: Path, benchmarks: list[Benchmark]) -> None:
    """Keep every refused row with its reason as ``rejects/<benchmark>.csv`` in the sweep folder, once."""
    for benchmark in benchmarks:
        path = folder / "rejects" / f"{benchmark.name}.csv"
        if benchmark.rejects and not path.exists():
            write_table(
                path, pd.DataFrame([(one.row, one.reason) for one in benchmark.rejects], columns=REJECT_COLUMNS)
            )


def objective(folder: Path, spec: RunSpec, session: Session) -> float | None:
    """Mean accuracy of the job's own run over the family that the sweep tunes for; None if it has no results.

    It is what a search of Hydra's (``hydra/sweeper=optuna``) maximises, so it is taken on the validation split alone.
    """
    run = RunFolder(folder / spec.name)
    if spec.sweep.split != "validation" or not run.is_done(spec.hash):
        return None
    metrics = run.read_metrics()
    names = [benchmark.name for benchmark in deciding(session.benchmarks(), spec.sweep.tuning)]
    chosen = metrics[(metrics["metric"] == "accuracy") & metrics["benchmark"].isin(names)]
    return float(chosen["value"].mean())


def _try(spec: RunSpec, session: Session, folder: Path, timeout: float) -> bool:
    """False if another process holds the run."""
    run = RunFolder(folder / spec.name)
    try:
        with run.lock(timeout=timeout):
            run.write_method(spec.record)
            if not run.is_done(spec.hash):
                _execute(spec, session, run)
    except Timeout:
        return False
    return True


def _execute(spec: RunSpec, session: Session, run: RunFolder) -> None:
    try:
        with run.working(spec.config, spec.hash):
            rows = _work(spec, session, run)
    except Exception as error:  # the other runs go on; the reason is in status.json and in the verdict
        warnings.warn(f"run {spec.name} failed: {type(error).__name__}: {error}", stacklevel=2)
        return
    with stage("tracking"):
        _track(spec, session, run, rows)


def _work(spec: RunSpec, session: Session, run: RunFolder) -> list[dict[str, Any]]:
    benchmarks = session.benchmarks()
    write_rejects(run.path.parent, benchmarks)
    if spec.uses_model:
        session.prepare()  # before the run's own progress bar appears
    ask = merged(spec, session, run) if spec.is_merge else _reference(spec, session, run)
    rows: list[dict[str, Any]] = []
    asked: dict[str, Any] = {}
    with progress(spec.name, sum(len(benchmark.test) for benchmark in benchmarks)) as bar:
        session.advance = bar.update
        for benchmark in benchmarks:
            before = bar.n
            try:
                predictions = ask(benchmark)
            except NotApplicable:
                continue
            finally:
                bar.update(before + len(benchmark.test) - bar.n)
            run.write_predictions(benchmark.name, predictions)
            rows += _rows(spec, session, benchmark, predictions)
            asked[benchmark.name] = {**_describe(benchmark), **terms(session.sweep.questions(), benchmark.name)}
    run.write_benchmarks(asked)
    run.write_metrics(rows)
    run.write_provenance(provenance(spec.hash, {b.name: b.checksum for b in benchmarks}, spec.sweep.seed))
    return rows


def _reference(spec: RunSpec, session: Session, run: RunFolder) -> Ask:
    function, settings = spec.method.entry.function, spec.method.settings
    return lambda benchmark: function(settings, session, benchmark)


def _rows(spec: RunSpec, session: Session, benchmark: Benchmark, predictions: pd.DataFrame) -> list[dict[str, Any]]:
    with stage("statistics"):
        labels = [label.strip() for label in benchmark.labels]
        found = metric_rows(predictions, labels, spec.sweep.seed, session.sweep.compute.resamples)
    return [{**spec.axes(), "benchmark": benchmark.name, **row} for row in found]


def _describe(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "title": benchmark.title,
        "family": benchmark.family,
        "labels": [label.strip() for label in benchmark.labels],
        "n": len(benchmark.test),
        "checksum": benchmark.checksum,
        "rejects": len(benchmark.rejects),
        "shortened": len(getattr(benchmark, "shortened", ())),
    }


def _track(spec: RunSpec, session: Session, run: RunFolder, rows: list[dict[str, Any]]) -> None:
    coefficients = run.coefficients if run.coefficients.exists() else None
    images: dict[str, Path] = {}
    if coefficients is not None and session.sweep.tracking.mode != "disabled":
        images["layer coefficients"] = run.path / "layer_coefficients.png"
        write_layer_map(coefficients, spec.name, images["layer coefficients"])
    job_type = "merge" if spec.is_merge else "reference"
    group = run.path.parent.name
    log_run(session.sweep.tracking, run, spec.config, group, spec.name, job_type, rows, images, coefficients)
