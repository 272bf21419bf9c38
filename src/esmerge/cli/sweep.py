"""Front door: merge specialists, ask benchmarks. ``python -m src.sweep -m granularity=layer,element,joint``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from esmerge.cli.command_line import prepare_command_line
from esmerge.cli.common import finish, quiet, sweep_folder
from esmerge.cli.composing import handing_on
from esmerge.cli.job_configs import explain
from esmerge.cli.jobs import fail_job, planned_tracking, read_job
from esmerge.cli.live import started_command, stop_showing
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.core.stopping import stoppable
from esmerge.experiment.pipeline import run_job
from esmerge.experiment.wandb_groups import log_sweep
from esmerge.storage.disk import disk_message
from esmerge.tracking.callback import started_folder
from esmerge.tracking.failed_jobs import forget_failed_job
from esmerge.tracking.results import run_folders
from esmerge.tracking.resume import resuming_command

OPTUNAS = "No trials are completed"  # how its study says so
NO_TRIAL = "no trial of the search was completed, so there are no best values; the verdict says why each failed"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def job(config: DictConfig) -> float | None:
    """One job of the sweep: the references that are not there yet, and one merge; returns what a search maximises.

    Whatever goes wrong is recorded as this job's failure, since an error that left here would end the other jobs.
    """
    folder = sweep_folder()
    forget_failed_job(folder, HydraConfig.get().overrides.task)
    try:
        return run_job(read_job(config), folder)
    except Exception as error:
        fail_job(folder, error)
        return None


@stoppable
def main() -> None:
    """Run every job, then report; a job that ends early still leaves a report of what is finished."""
    quiet()
    prepare_command_line()
    try:
        code = _ending(job)
    finally:
        stop_showing()
    folder = started_folder()
    failed = 0 if folder is None else _report(folder)
    if folder is not None and (code or failed):
        print(f"this goes on from what is finished:\n  {resuming_command(folder)}", file=sys.stderr)
    sys.exit(code or failed)


def _ending(jobs: Callable[[], object]) -> int | str | None:
    """Carry out the jobs; returns what the process should exit with."""
    with handing_on() as full_error:
        try:
            jobs()
        except KeyboardInterrupt:
            return "stopped"
        except SystemExit as stop:
            return stop.code
        except Exception as error:
            if full_error:
                raise
            return f"error: {NO_TRIAL if str(error).startswith(OPTUNAS) else explain(error)}"
    return 0


def _report(folder: Path) -> int | str:
    """Report on what is finished; returns the exit code, or why there is no report."""
    try:
        if not (folder.is_dir() and run_folders(folder)):
            return 0
        code = finish(folder, started_command().made)
        if (tracking := planned_tracking()) is not None:
            log_sweep(folder, tracking)
        return code
    except BenchError as error:
        return f"error: {error}"
    except OSError as error:
        return f"error: {disk_message(error, folder)}"


if __name__ == "__main__":
    main()
