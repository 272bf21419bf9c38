"""A search, whose trials are proposed one after another: refused before any work where it could not find anything."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from esmerge.cli.job_configs import compose_job, hydra_config, uncomposable, without_hydra
from esmerge.core.errors import ConfigError
from esmerge.core.schema import plain, typed
from esmerge.experiment.search import Tuning
from esmerge.experiment.suite import families
from esmerge.experiment.tune import check_objective
from esmerge.tracking.wandb_settings import Tracking

RATE = "max_failure_rate"  # Optuna's sweeper: share of the trials that may fail
OPTUNA = "OptunaSweeper"
SPACES = ("search_space", "custom_search_space")  # further settings of Optuna's sweeper that say what is searched
OF_OBJECTIVE = ("suite", "suite.benchmarks", "benchmark", "benchmark.name", "benchmark.family",
                "tuning", "tuning.objective")  # what decides whether an objective has benchmarks  # fmt: skip


def is_grid(config: DictConfig) -> bool:
    """Whether the jobs of a multirun are known at its start, all combinations of what is listed."""
    return str(config.hydra.sweeper["_target_"]).endswith(BasicSweeper.__name__)


def tolerate_failed_trials(config: DictConfig) -> None:
    """Let a search go on after a trial that failed, unless the command line says how many may fail.

    Optuna's sweeper ends at the first by its default, and then keeps nothing of the others.
    """
    is_set = any(override.startswith(f"hydra.sweeper.{RATE}=") for override in config.hydra.overrides.hydra)
    if RATE in config.hydra.sweeper and not is_set:
        with open_dict(config):
            config.hydra.sweeper[RATE] = 1.0


def check_search(config: DictConfig, overrides: Sequence[Override]) -> Tracking:
    """How the trials of a search are tracked.

    Args:
        config: of the multirun.
        overrides: all of its words and of its sweeper's parameters.

    Raises:
        ConfigError: a search that would be told nothing of its trials, looks for the worst, or has nothing to look for.
    """
    _check_ranges(config, overrides)
    fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
    _check_choices(config, fixed, [override for override in overrides if override.is_choice_sweep()])
    job_config = compose_job(config, fixed, 0)
    if job_config.get("split") == "test":
        raise ConfigError(
            "split=test: a search must not see test questions, so every trial would count as failed: expected "
            "split=validation, which experiment=optuna sets"
        )
    if "minimize" in str(config.hydra.sweeper.get("direction", "")):
        raise ConfigError(
            "hydra.sweeper.direction=minimize: trials are judged by their accuracy: expected maximize, which "
            "experiment=optuna sets"
        )
    searched = {override.key_or_group for override in overrides if override.is_sweep_override()}
    raw = plain(without_hydra(job_config))
    if not searched & set(OF_OBJECTIVE):  # else each trial is checked when it is proposed
        with hydra_config(job_config):
            family_of = families(raw["suite"]["benchmarks"], raw["benchmark"])
        check_objective(typed(Tuning, raw["tuning"], "tuning").objective, family_of)
    return typed(Tracking, raw["tracking"], "tracking")


def _check_ranges(config: DictConfig, overrides: Sequence[Override]) -> None:
    sweeper = config.hydra.sweeper
    is_searched = any(override.is_sweep_override() for override in overrides) or any(map(sweeper.get, SPACES))
    if str(sweeper["_target_"]).endswith(OPTUNA) and not is_searched:
        raise ConfigError(
            "nothing is searched, so every trial would be the same: give a setting a range or choices, such as "
            "'method.scale=interval(0.3,3)'"
        )


def _check_choices(config: DictConfig, fixed: list[str], overrides: Sequence[Override]) -> None:
    """Refuse choices that cannot be composed, since a trial with one would end the search."""
    faults = []
    for override in overrides:
        for value in override.sweep_string_iterator():
            choice = f"{override.get_key_element()}={value}"
            try:
                compose_job(config, [*fixed, choice], 0)
            except HydraException as error:
                faults.append(f"{choice}: {uncomposable(error, [*fixed, choice])}")
    if faults:
        raise ConfigError("; ".join(faults))
