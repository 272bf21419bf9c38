"""The jobs of a sweep: all are checked before the first starts, and what goes wrong in one is that job's failure."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from esmerge.cli.composing import in_words
from esmerge.core.errors import BenchError, ConfigError
from esmerge.experiment.config import Sweep, read_sweep
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.tasks.load import check_benchmarks
from esmerge.tracking.failed_jobs import record_failed_job
from esmerge.tracking.wandb_settings import check_login

RATE = "max_failure_rate"  # Optuna's sweeper: share of the trials that may fail

Refusals = dict[int, str]
"""Number of a job -> why it cannot run."""

_PLANNED: dict[str, RunSpec] = {}


def planned_runs() -> dict[str, RunSpec]:
    """Name -> run, of the jobs that were checked and not refused; none of a search's, which proposes them later."""
    return dict(_PLANNED)


def read_job(config: DictConfig) -> Sweep:
    """Everything of a job that can be checked before any work.

    Args:
        config: as Hydra hands it to a job.

    Raises:
        BenchError: naming the setting, its value, and what was expected.
    """
    return plan_job(config)[0]


def plan_job(config: DictConfig) -> tuple[Sweep, list[RunSpec]]:
    """The same, with the runs that the job consists of."""
    sweep = read_sweep(config)
    check_benchmarks(sweep.suite_request())
    check_login(sweep.tracking)
    return sweep, plan_runs(sweep)


def fail_job(folder: Path, error: Exception) -> None:
    """Record in the sweep folder that the job that runs now failed; the other jobs go on."""
    config = HydraConfig.get()
    number = None if config.mode == RunMode.RUN else config.job.num
    reason = explain(error) if number is None else f"job {number}: {explain(error)}"
    record_failed_job(folder, config.overrides.task, reason)
    warnings.warn(f"failed: {reason}", stacklevel=2)


def explain(error: Exception) -> str:
    """An error in one line; those that are not raised on purpose with their type."""
    if isinstance(error, HydraException) and (message := in_words(error)):
        return message
    text = " ".join(str(error).split())
    return text if isinstance(error, BenchError) else f"{type(error).__name__}: {text}"


class CheckJobs(Callback):
    """Checks every job's config when a run or multirun starts, and names all that are refused at once.

    Where no job is left, or one cannot even be composed, the process ends here; else the others run, and each refused
    job fails by itself when its turn comes.
    """

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _PLANNED.clear()
        with hydra_config(config):
            try:
                _note(plan_job(without_hydra(config))[1])
            except Exception as error:
                raise SystemExit(f"error: {explain(error)}") from error

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _PLANNED.clear()
        tolerate_failed_trials(config)
        try:
            jobs = listed_jobs(config)
        except (BenchError, HydraException) as error:
            raise SystemExit(f"error: {explain(error)}") from error
        refusals, uncomposed = check_jobs(config, jobs)
        if refusals:
            print(refusal_text(refusals, jobs), file=sys.stderr)
        if uncomposed or (jobs and len(refusals) == len(jobs)):
            raise SystemExit(1)


def tolerate_failed_trials(config: DictConfig) -> None:
    """Let a search go on after a trial that failed, unless the command line says how many may fail.

    Optuna's sweeper ends at the first by its default, and then keeps nothing of the others.
    """
    is_set = any(override.startswith(f"hydra.sweeper.{RATE}=") for override in config.hydra.overrides.hydra)
    if RATE in config.hydra.sweeper and not is_set:
        with open_dict(config):
            config.hydra.sweeper[RATE] = 1.0


def listed_jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of each job of a multirun; none where a search proposes them one after another.

    Raises:
        ConfigError: a search that would be told nothing of its trials, or that looks for the worst.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides([*_sweeper_params(config), *config.hydra.overrides.task])
    if is_grid(config):
        return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]
    _check_search(config, overrides)
    return []


def check_jobs(config: DictConfig, jobs: Sequence[list[str]]) -> tuple[Refusals, bool]:
    """The jobs that are refused, and whether one of them cannot be composed, so that Hydra would start none."""
    refusals: Refusals = {}
    uncomposed = False
    for number, overrides in enumerate(jobs):
        try:
            job_config = compose_job(config, overrides, number)
        except HydraException as error:
            uncomposed, refusals[number] = True, explain(_cause(error))
            continue
        with hydra_config(job_config):
            try:
                _note(plan_job(without_hydra(job_config))[1])
            except Exception as error:
                refusals[number] = explain(error)
    return refusals, uncomposed


def compose_job(config: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    """A job's config as a launcher composes it.

    Args:
        config: of the multirun.
        number: of the job.
    """
    job_config = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
    with open_dict(job_config):
        job_config.hydra.job.id = job_config.hydra.job.num = number
    return job_config


def refusal_text(refusals: Refusals, jobs: Sequence[Sequence[str]]) -> str:
    """All refused jobs, each with the overrides that not all jobs have, and with its reason."""
    verb = "is" if len(refusals) == 1 else "are"
    common = set.intersection(*map(set, jobs))
    differing = {number: " ".join(text for text in jobs[number] if text not in common) for number in refusals}
    lines = [
        f"  job {number}{f' ({differing[number]})' * bool(differing[number])}: {refusals[number]}"
        for number in refusals
    ]
    return "\n".join([f"error: {len(refusals)} of {len(jobs)} jobs {verb} refused:", *lines])


def without_hydra(config: DictConfig) -> DictConfig:
    """A composed config without Hydra's own node, as a job sees it."""
    job_config = config.copy()
    with open_dict(job_config):
        del job_config["hydra"]
    return job_config


@contextmanager
def hydra_config(config: DictConfig) -> Iterator[None]:
    """Let ``HydraConfig`` say for a while what it says inside a job with this config."""
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(config)
    try:
        yield
    finally:
        instance.cfg = before


def _note(specs: Sequence[RunSpec]) -> None:
    _PLANNED.update({spec.name: spec for spec in specs})


def is_grid(config: DictConfig) -> bool:
    return str(config.hydra.sweeper["_target_"]).endswith(BasicSweeper.__name__)


def _sweeper_params(config: DictConfig) -> list[str]:
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]


def _check_search(config: DictConfig, overrides: Sequence[Override]) -> None:
    fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
    _check_choices(config, fixed, [override for override in overrides if override.is_choice_sweep()])
    if compose_job(config, fixed, 0).get("split") == "test":
        raise ConfigError(
            "split=test: a search must not see test questions, so every trial would count as failed: expected "
            "split=validation, which experiment=optuna sets"
        )
    if "minimize" in str(config.hydra.sweeper.get("direction", "")):
        raise ConfigError(
            "hydra.sweeper.direction=minimize: trials are judged by their accuracy: expected maximize, which "
            "experiment=optuna sets"
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
                faults.append(f"{choice}: {explain(_cause(error))}")
    if faults:
        raise ConfigError("; ".join(faults))


def _cause(error: HydraException) -> Exception:
    return error.__cause__ if isinstance(error.__cause__, Exception) else error
