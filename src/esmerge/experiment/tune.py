"""Tuning on the validation split: Optuna proposes settings, the merge is made and evaluated, the best settings win.

The first trial is the published setting, every method has the same number of trials, and no test question is answered
before the settings are chosen. A merge that by its own design reads test questions without their labels (AdaMerging)
reads them here too.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from esmerge.coefficients.types import ESConfig
from esmerge.core.errors import BenchError, ConfigError
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
        ConfigError: the method has nothing to tune, no benchmark has the family that decides, or every trial failed.
    """
    tuning, settings = spec.sweep.tuning, spec.method.settings
    granularity = spec.sweep.granularity if spec.uses_granularity else None
    ranges = tuning.ranges(settings, granularity)
    if not ranges:
        raise ConfigError(f"method={spec.method.name} has none of {', '.join(tuning.search)}: nothing can be tuned")
    benchmarks = tuning_benchmarks(suite, tuning, spec.sweep.seed)
    trials: list[dict[str, float | str | None]] = []
    with progress(f"tuning {spec.name}", tuning.trials) as bar:

        def score(values: Values) -> float | None:
            mean_accuracy, failure = _attempt(predict_all, values, settings, granularity, benchmarks)
            trials.append({**values, "accuracy": mean_accuracy} | ({"failure": failure} if failure else {}))
            run.write_tuning(pd.DataFrame(trials))
            bar.update()
            return mean_accuracy

        best = optimise(ranges, values_of(ranges, settings, granularity), tuning.trials, spec.sweep.seed, score)
    if best is None:
        raise ConfigError(f"method={spec.method.name}: every trial failed, the first with: {trials[0]['failure']}")
    return with_values(best, settings, granularity)


def _attempt(
    predict_all: PredictAll,
    values: Values,
    settings: DataclassInstance,
    granularity: ESConfig | None,
    benchmarks: Sequence[Benchmark],
) -> tuple[float | None, str | None]:
    """A trial's mean accuracy or, where its values are refused or leave no numbers, the reason."""
    try:
        predictions = predict_all(*with_values(values, settings, granularity), benchmarks)
    except BenchError as error:
        return None, f"{type(error).__name__}: {error}"
    return sum(map(accuracy, predictions)) / len(benchmarks), None


def tuning_benchmarks(suite: Sequence[Benchmark], tuning: Tuning, seed: int = 0) -> list[Benchmark]:
    """The benchmarks whose validation questions decide, a sample of them drawn by the seed."""
    check_objective(tuning.objective, {benchmark.name: benchmark.family for benchmark in suite})
    benchmarks = [benchmark for benchmark in suite if tuning.objective in (benchmark.family, EVERYTHING)]
    empty = [benchmark.name for benchmark in benchmarks if not benchmark.validation]
    if empty:
        raise ConfigError(f"{', '.join(empty)} has no validation split to tune on: leave it out, or use tuning=none")
    return [on_validation(benchmark, tuning.limit, seed) for benchmark in benchmarks]


def check_objective(objective: str, families: Mapping[str, str]) -> None:
    """Refuse an objective that none of the benchmarks could decide.

    Args:
        objective: a family, or ``all``.
        families: name of each benchmark that is asked -> its family.

    Raises:
        ConfigError: with the families that there are, and what to add.
    """
    if objective not in (EVERYTHING, *families.values()):
        expected = ", ".join(sorted(set(families.values())))
        raise ConfigError(
            f"tuning.objective={objective!r}: expected {EVERYTHING} or one of {expected}, the families of "
            f"{', '.join(families)}: add tuning.objective={EVERYTHING}"
        )


def objective(run: RunFolder, spec: RunSpec) -> float | None:
    """Mean accuracy of a run over the family that the sweep tunes for; None if it lacks the result of one benchmark.

    It is what a search of Hydra's (``hydra/sweeper=optuna``) maximises, so it is taken on the validation split alone.
    """
    if spec.sweep.split != "validation" or not run.is_done(spec.hash):
        return None
    metrics = run.read_metrics()
    names = [
        benchmark.name for benchmark in tuning_benchmarks(load_suite(spec.sweep), spec.sweep.tuning, spec.sweep.seed)
    ]
    accuracies = metrics[(metrics["metric"] == "accuracy") & metrics["benchmark"].isin(names)]
    complete = set(accuracies["benchmark"]) == set(names) and bool(np.isfinite(accuracies["value"]).all())
    return float(accuracies["value"].mean()) if complete else None


def accuracy(predictions: pd.DataFrame) -> float:
    """Accuracy; an answer that could not be parsed is wrong."""
    return float((predictions["prediction"] == predictions["label"]).mean())


def optimise(
    ranges: Mapping[str, SearchRange],
    published: Values,
    trials: int,
    seed: int,
    score: Callable[[Values], float | None],
) -> Values | None:
    """Optuna's tree-structured Parzen estimator over the ranges, started from the published values; highest score.

    Values without a score (None, or one that is not finite) never win; None if no values have one.
    """
    with stage("tuning"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this release of Optuna calls its own interface experimental
        import optuna  # late: it takes seconds to import

        optuna.logging.set_verbosity(logging.ERROR)
        shapes = {False: optuna.distributions.UniformDistribution, True: optuna.distributions.LogUniformDistribution}
        space = {name: shapes[values.log](values.low, values.high) for name, values in ranges.items()}
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        best, best_score = _better(None, -math.inf, published, score(published))
        if best is not None and all(values.holds(published[name]) for name, values in ranges.items()):
            study.add_trial(optuna.trial.create_trial(params=dict(published), distributions=space, value=best_score))
        for _ in range(trials - 1):
            trial = study.ask(space)
            trial_score = score(trial.params)
            failed = trial_score is None or not math.isfinite(trial_score)
            states = optuna.trial.TrialState
            study.tell(trial, None if failed else trial_score, states.FAIL if failed else states.COMPLETE)
            best, best_score = _better(best, best_score, trial.params, trial_score)
        return best


def _better(best: Values | None, best_score: float, values: Values, score: float | None) -> tuple[Values | None, float]:
    """The values with the higher score, the earlier of equals."""
    if score is None or not best_score < score < math.inf:
        return best, best_score
    return values, score
