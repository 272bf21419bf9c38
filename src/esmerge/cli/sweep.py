"""Front door: merge specialists, ask benchmarks. ``python -m src.sweep -m granularity=layer,element,joint``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from esmerge.cli.command_line import prepare_command_line
from esmerge.cli.common import finish, quiet, sweep_folder
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.experiment.config import read_sweep
from esmerge.experiment.pipeline import run_job
from esmerge.tasks.load import check_benchmarks
from esmerge.tracking.callback import started_folder
from esmerge.tracking.results import run_folders
from esmerge.tracking.wandb_log import check_login


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def job(config: DictConfig) -> float | None:
    """One job of the sweep: the references that are not there yet, and one merge; returns what a search maximises."""
    try:
        sweep = read_sweep(config)
        check_benchmarks(sweep.suite_request())
        check_login(sweep.tracking)
        return run_job(sweep, sweep_folder())
    except BenchError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    """Run every job, then report; a job that ends early still leaves a report of what is finished."""
    quiet()
    prepare_command_line()
    code: int | str | None = 0
    try:
        job()
    except KeyboardInterrupt:
        code = "stopped; the same command goes on from what is finished"
    except SystemExit as stop:
        code = stop.code
    folder = started_folder()
    reportable = folder is not None and folder.is_dir() and bool(run_folders(folder))
    failed = finish(folder) if folder is not None and reportable else 0
    sys.exit(code or failed)


if __name__ == "__main__":
    main()
