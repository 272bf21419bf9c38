"""The jobs of a sweep: all are checked before the first starts, and what goes wrong in one is that job's failure."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from esmerge.cli.job_configs import compose_job, explain, hydra_config, uncomposable, without_hydra
from esmerge.cli.searches import check_search, is_grid, tolerate_failed_trials
from esmerge.core.errors import BenchError, ConfigError
from esmerge.experiment.config import Sweep, read_sweep
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.experiment.suite import families
from esmerge.experiment.tune import check_objective
from esmerge.tasks.load import check_benchmarks
from esmerge.tracking.failed_jobs import record_failed_job
from esmerge.tracking.wandb_settings import Tracking, check_login

Refusals = dict[int, str]
"""Number of a job -> why it cannot run."""

_PLANNED: dict[str, RunSpec] = {}
_TRACKING: list[Tracking] = []


def planned_runs() -> dict[str, RunSpec]:
    """Name -> run, of the jobs that were checked and not refused; none of a search's, which proposes them later."""
    return dict(_PLANNED)


def planned_tracking() -> Tracking | None:
    """How the jobs are tracked, all of them alike; None before they are checked, and where each is refused."""
    return _TRACKING[-1] if _TRACKING else None


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
    _check_suite(sweep)
    check_benchmarks(sweep.suite_request())
    check_login(sweep.tracking)
    specs = plan_runs(sweep)
    if sweep.split == "validation" or any(spec.tuned for spec in specs):
        check_objective(sweep.tuning.objective, families(sweep.suite.benchmarks, sweep.benchmark))
    if sweep.split == "validation" and any(spec.tuned for spec in specs):
        raise ConfigError(
            "split=validation with tuning: settings would be chosen on the questions that are reported; say split=test"
        )
    return sweep, specs


def _check_suite(sweep: Sweep) -> None:
    """Refuse a suite beside one benchmark, on one command line: one of them would be ignored."""
    benchmark = sweep.benchmark.get("name")
    words = HydraConfig.get().overrides.task
    suites = [word for word in words if word.partition("=")[0].lstrip("+") in ("suite", "suite.benchmarks")]
    if benchmark is not None and suites:
        raise ConfigError(f"benchmark={benchmark} and {suites[-1]} both say what is asked: leave one of them out")


def fail_job(folder: Path, error: Exception) -> None:
    """Record in the sweep folder that the job that runs now failed; the other jobs go on."""
    config = HydraConfig.get()
    number = None if config.mode == RunMode.RUN else config.job.num
    reason = explain(error) if number is None else f"job {number}: {explain(error)}"
    record_failed_job(folder, config.overrides.task, reason)
    warnings.warn(f"failed: {reason}", stacklevel=2)


class CheckJobs(Callback):
    """Checks every job's config when a run or multirun starts, and names all that are refused at once.

    Where no job is left, or one cannot even be composed, the process ends here; else the others run, and each refused
    job fails by itself when its turn comes.
    """

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _forget()
        with hydra_config(config):
            try:
                _note(*plan_job(without_hydra(config)))
            except Exception as error:
                raise SystemExit(f"error: {explain(error)}") from error

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _forget()
        tolerate_failed_trials(config)
        try:
            jobs = listed_jobs(config)
        except (BenchError, HydraException) as error:
            raise SystemExit(f"error: {explain(error)}") from error
        refusals, uncomposed = check_jobs(config, jobs)
        if refusals:
            print(refusal_text(refusals, jobs, uncomposed), file=sys.stderr)
        if uncomposed or (jobs and len(refusals) == len(jobs)):
            raise SystemExit(1)


def listed_jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of each job of a multirun; none where a search proposes them one after another.

    Raises:
        ConfigError: a search that would be told nothing of its trials, or that looks for the worst.
    """
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides([*_sweeper_params(config), *config.hydra.overrides.task])
    if is_grid(config):
        return [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]
    _TRACKING.append(check_search(config, overrides))
    return []


def check_jobs(config: DictConfig, jobs: Sequence[list[str]]) -> tuple[Refusals, bool]:
    """The jobs that are refused, and whether one of them cannot be composed, so that Hydra would start none."""
    refusals: Refusals = {}
    uncomposed = False
    for number, overrides in enumerate(jobs):
        try:
            job_config = compose_job(config, overrides, number)
        except HydraException as error:
            uncomposed, refusals[number] = True, uncomposable(error, overrides)
            continue
        with hydra_config(job_config):
            try:
                _note(*plan_job(without_hydra(job_config)))
            except Exception as error:
                refusals[number] = explain(error)
    return refusals, uncomposed


def refusal_text(refusals: Refusals, jobs: Sequence[Sequence[str]], uncomposed: bool = False) -> str:
    """All refused jobs, each with the overrides that not all jobs have, and with its reason.

    Args:
        uncomposed: whether Hydra starts no job for one of them.
    """
    verb = "is" if len(refusals) == 1 else "are"
    common = set.intersection(*map(set, jobs))
    differing = {number: " ".join(text for text in jobs[number] if text not in common) for number in refusals}
    lines = [
        f"  job {number}{f' ({differing[number]})' * bool(differing[number])}: {refusals[number]}"
        for number in refusals
    ]
    if uncomposed and (others := len(jobs) - len(refusals)):
        noun = "the other job starts" if others == 1 else f"the other {others} jobs start"
        lines.append(f"  {noun} once nothing that cannot be composed stands beside: give these a command of their own")
    return "\n".join([f"error: {len(refusals)} of {len(jobs)} jobs {verb} refused:", *lines])


def _forget() -> None:
    _PLANNED.clear()
    _TRACKING.clear()


def _note(sweep: Sweep, specs: Sequence[RunSpec]) -> None:
    _PLANNED.update({spec.name: spec for spec in specs})
    _TRACKING.append(sweep.tracking)


def _sweeper_params(config: DictConfig) -> list[str]:
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items()]
