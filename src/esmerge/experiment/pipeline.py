"""From a sweep's config to stored, tracked results.

specialists -> suite -> for each run: probe -> signals -> coefficients -> merge -> predict -> score -> store -> track.
Specialists, benchmarks and everything measured are made once and shared; a run that is done is skipped, unless its data
changed since.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from filelock import Timeout

from esmerge.coefficients.summary import CoefficientSummary
from esmerge.core.errors import NotApplicable, StoreError
from esmerge.core.progress import progress
from esmerge.core.prompts import Benchmark
from esmerge.core.secrets import redacted
from esmerge.core.stopping import stop_on_signals
from esmerge.core.timing import stage
from esmerge.evaluation.metrics import metric_rows
from esmerge.experiment.changes import CurrentData, make_again
from esmerge.experiment.config import Sweep
from esmerge.experiment.familiar import warn_of_familiar_questions
from esmerge.experiment.lengths import check_lengths
from esmerge.experiment.lineage import note_lineage
from esmerge.experiment.merge_run import Method, carry_out_merge
from esmerge.experiment.models import Models, load_models
from esmerge.experiment.one_gpu import on_one_gpu
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.experiment.records import describe_benchmark, write_rejects
from esmerge.experiment.suite import load_suite
from esmerge.experiment.tune import objective
from esmerge.experiment.unperceived import warn_of_idle_encoders
from esmerge.model.threads import use_threads
from esmerge.report.figures import write_layer_map
from esmerge.storage.disk import disk_is_full, disk_message
from esmerge.storage.usable import check_folder
from esmerge.tracking.provenance import provenance
from esmerge.tracking.questions import write_questions
from esmerge.tracking.steps import noted_steps
from esmerge.tracking.store import RunFolder
from esmerge.tracking.wandb_client import client_mode
from esmerge.tracking.wandb_log import log_failed_run, log_run
from esmerge.tracking.wandb_run import Identity

ResultRows = list[dict[str, object]]
"""Rows of ``results.csv``."""


@stop_on_signals()
@on_one_gpu
def run_job(sweep: Sweep, folder: Path) -> float | None:
    """Carry out one job: the references that are not there yet, and its own method.

    Returns:
        what a search of Hydra's maximises: see ``objective``.

    Raises:
        BenchError: the configuration cannot be planned.
        StoreError: the sweep folder, the cache or the folder of W&B's files cannot be written, or the disk is full.
    """
    check_folder(Path(sweep.cache), "cache")
    check_folder(sweep.tracking.parent(folder), "tracking.folder")
    specs = plan_runs(sweep)
    use_threads(sweep.compute.threads, sweep.compute.device)
    try:
        execute_all(specs, folder)
    except OSError as error:
        raise StoreError(disk_message(error, folder)) from error
    return objective(RunFolder(folder / specs[-1].name), specs[-1])


def execute_all(specs: Sequence[RunSpec], folder: Path) -> list[str]:
    """Carry out every run that is not done yet, or whose data changed since; returns the names of those that failed.

    A run that another process is working on is left for last, so that processes share the work.
    """
    data = CurrentData()
    waiting = [spec for spec in specs if not _try(spec, folder, data, timeout=0)]
    for spec in waiting:
        _try(spec, folder, data, timeout=-1)
    return [spec.name for spec in specs if RunFolder(folder / spec.name).status().state == "failed"]


def execute_run(spec: RunSpec, run: RunFolder, data: CurrentData) -> None:
    """One run from its inputs to its records; a failure is recorded in ``status.json``, and the other runs go on."""
    try:
        with run.working(spec.config, spec.hash), noted_steps(run.path):
            data.note(spec, run)
            suite = load_suite(spec.sweep)
            write_rejects(run.path.parent, suite, spec.sweep.seed)
            models = load_models(spec.sweep, suite) if spec.uses_model else None
            if models is not None:
                check_lengths(spec, suite, models.context.specialists)
                warn_of_idle_encoders(suite, models.context.specialists)
                warn_of_familiar_questions(suite, models.context.specialists)
            method = prepare(spec, suite, models, run)
            rows = answer_suite(spec, suite, method, models, run)
            note_lineage(spec, models, run)
            run.write_provenance(provenance(spec.hash, {b.name: b.checksum for b in suite}, spec.sweep.seed))
    except Exception as error:
        if disk_is_full(error):
            raise StoreError(disk_message(error, run.path)) from error  # the work of later runs could not be stored
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(redacted(f"run {spec.name} failed: {reason}"), stacklevel=2)
        identity = Identity(run.path.parent.name, spec.name, job_type(spec))
        log_failed_run(spec.sweep.tracking, run, spec.config, identity, reason)
        return
    with stage("tracking"):
        track(spec, run, rows, method.summary)


def prepare(spec: RunSpec, suite: Sequence[Benchmark], models: Models | None, run: RunFolder) -> Method:
    """Make the merge, or look up how a reference answers."""
    function, settings = spec.method.entry.function, spec.method.settings
    if models is None:
        return Method(lambda benchmark, _: function(settings, benchmark, spec.sweep.seed))
    if not spec.is_merge:
        return Method(lambda benchmark, reference_model: function(settings, reference_model, benchmark))
    return carry_out_merge(spec, suite, models, run)


def answer_suite(
    spec: RunSpec, suite: Sequence[Benchmark], method: Method, models: Models | None, run: RunFolder
) -> ResultRows:
    """Predict, score and store each benchmark; one that the method has no answer to is left out."""
    rows: ResultRows = []
    answered: dict[str, dict[str, object]] = {}
    with progress(spec.name, sum(len(benchmark.test) for benchmark in suite)) as bar:
        reporting = None if models is None else models.reporting(bar.update)
        for benchmark in suite:
            before = bar.n
            try:
                predictions = method.predict(benchmark, reporting)
            except NotApplicable:
                continue
            finally:
                bar.update(before + len(benchmark.test) - bar.n)
            run.write_predictions(benchmark.name, predictions)
            rows += score_predictions(spec, benchmark, predictions)
            questions = {"questions": write_questions(run.path.parent, benchmark)}
            answered[benchmark.name] = {**describe_benchmark(benchmark, spec.sweep), **questions}
    run.write_benchmarks(answered)
    run.write_metrics(rows)
    return rows


def score_predictions(spec: RunSpec, benchmark: Benchmark, predictions: pd.DataFrame) -> ResultRows:
    """Every metric with its interval, as rows of ``results.csv``."""
    with stage("statistics"):
        labels = [label.strip() for label in benchmark.labels]
        metrics = metric_rows(predictions, labels, spec.sweep.seed, spec.sweep.compute.resamples)
    return [{**spec.axes(), "benchmark": benchmark.name, **row} for row in metrics]


def job_type(spec: RunSpec) -> str:
    """What W&B calls the run's kind."""
    return "merge" if spec.is_merge else "reference"


def track(spec: RunSpec, run: RunFolder, rows: ResultRows, summary: CoefficientSummary | None) -> None:
    """Log a finished run; whatever happens here, its results are stored."""
    images: dict[str, Path] = {}
    parent = spec.sweep.tracking.parent(run.path.parent)
    if summary is not None and client_mode(spec.sweep.tracking.mode, parent) != "disabled":
        images["layer coefficients"] = run.path / "layer_coefficients.png"
        write_layer_map((summary.experts, summary.layer_shares), spec.name, images["layer coefficients"])
    group = run.path.parent.name
    coefficients = None if summary is None else (run.coefficients, summary)
    log_run(spec.sweep.tracking, run, spec.config, group, spec.name, job_type(spec), rows, images, coefficients)


def _try(spec: RunSpec, folder: Path, data: CurrentData, timeout: float) -> bool:
    """False if another process holds the run."""
    run = RunFolder(folder / spec.name)
    try:
        with run.lock(timeout=timeout):
            run.write_method(spec.record)
            is_done = run.is_done(spec.hash)
            if is_done and (changed := data.changes(spec, run)):
                make_again(spec, run, changed)
                is_done = False
            if not is_done:
                execute_run(spec, run, data)
    except Timeout:
        return False
    return True
