"""Tuning on the validation split: Optuna proposes settings, the merge is made and evaluated, the best settings win.

The first trial is the published setting, every method has the same number of trials, and no test question is answered
before the settings are chosen. A merge that by its own design reads test questions without their labels (AdaMerging)
reads them here too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from esmerge.coefficients.types import ESConfig
from esmerge.core.errors import ConfigError
from esmerge.core.progress import progress
from esmerge.core.prompts import Benchmark
from esmerge.core.timing import stage
from esmerge.experiment.plan import RunSpec
from esmerge.experiment.search import EVERYTHING, SearchRange, Tuning, Values, values_of, with_values
from esmerge.experiment.suite import load_suite, on_validation
from esmerge.tracking.store import RunFolder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PredictAll = Callable[["DataclassInstance", ESConfig | None, Sequence[Benchmark]], list[pd.DataFrame]]
"""Merges with settings and a granularity, and predicts on benchmarks."""


def tune(
    spec: RunSpec, suite: Sequence[Benchmark], run: RunFolder, predict_all: PredictAll
) -> tuple[DataclassInstance, ESConfig | None]:
    """The settings and the granularity that do best on the validation split; the trials go into ``tuning.csv``.

    Raises:
        ConfigError: the method has nothing to tune, or no benchmark has the family that decides.
    """
    tuning, settings = spec.sweep.tuning, spec.method.settings
    granularity = spec.sweep.granularity if spec.uses_granularity else None
    ranges = tuning.ranges(settings, granularity)
    if not ranges:
        raise ConfigError(f"method={spec.method.name} has none of {', '.join(tuning.search)}: nothing can be tuned")
    benchmarks = tuning_benchmarks(suite, tuning)
    trials: list[dict[str, float | None]] = []
    with progress(f"tuning {spec.name}", tuning.trials) as bar:

        def score(values: Values) -> float:
            predictions = predict_all(*with_values(values, settings, granularity), benchmarks)
            mean_accuracy = sum(map(accuracy, predictions)) / len(benchmarks)
            trials.append({**values, "accuracy": mean_accuracy})
            run.write_tuning(pd.DataFrame(trials))
            bar.update()
            return mean_accuracy

        best = optimise(ranges, values_of(ranges, settings, granularity), tuning.trials, spec.sweep.seed, score)
    return with_values(best, settings, granularity)


def tuning_benchmarks(suite: Sequence[Benchmark], tuning: Tuning) -> list[Benchmark]:
    """The benchmarks whose validation questions decide."""
    benchmarks = [benchmark for benchmark in suite if tuning.objective in (benchmark.family, EVERYTHING)]
    if not benchmarks:
        families = ", ".join(sorted({benchmark.family for benchmark in suite}))
        raise ConfigError(f"tuning.objective={tuning.objective!r}: expected {EVERYTHING} or one of {families}")
    empty = [benchmark.name for benchmark in benchmarks if not benchmark.validation]
    if empty:
        raise ConfigError(f"{', '.join(empty)} has no validation split to tune on: leave it out, or use tuning=none")
    return [on_validation(benchmark, tuning.limit) for benchmark in benchmarks]


def objective(run: RunFolder, spec: RunSpec) -> float | None:
    """Mean accuracy of a run over the family that the sweep tunes for; None if it has no results.

    It is what a search of Hydra's (``hydra/sweeper=optuna``) maximises, so it is taken on the validation split alone.
    """
    if spec.sweep.split != "validation" or not run.is_done(spec.hash):
        return None
    metrics = run.read_metrics()
    names = [benchmark.name for benchmark in tuning_benchmarks(load_suite(spec.sweep), spec.sweep.tuning)]
    accuracies = metrics[(metrics["metric"] == "accuracy") & metrics["benchmark"].isin(names)]
    return float(accuracies["value"].mean())


def accuracy(predictions: pd.DataFrame) -> float:
    """Accuracy; an answer that could not be parsed is wrong."""
    return float((predictions["prediction"] == predictions["label"]).mean())


def optimise(
    ranges: Mapping[str, SearchRange],
    published: Values,
    trials: int,
    seed: int,
    score: Callable[[Values], float],
) -> Values:
    """Optuna's tree-structured Parzen estimator over the ranges, started from the published values; highest score."""
    with stage("tuning"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this release of Optuna calls its own interface experimental
        import optuna  # late: it takes seconds to import

        optuna.logging.set_verbosity(logging.ERROR)
        shapes = {False: optuna.distributions.UniformDistribution, True: optuna.distributions.LogUniformDistribution}
        space = {name: shapes[values.log](values.low, values.high) for name, values in ranges.items()}
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        best, best_score = published, score(published)
        if all(values.holds(published[name]) for name, values in ranges.items()):
            study.add_trial(optuna.trial.create_trial(params=dict(published), distributions=space, value=best_score))
        for _ in range(trials - 1):
            trial = study.ask(space)
            trial_score = score(trial.params)
            study.tell(trial, trial_score)
            if trial_score > best_score:
                best, best_score = trial.params, trial_score
        return best
