"""Front door: merge specialists, ask benchmarks. ``python -m src.sweep -m granularity=layer,element,joint``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from esmerge.cli.common import finish, quiet, sweep_folder
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.experiment.config import read_sweep
from esmerge.experiment.pipeline import run_job
from esmerge.storage.disk import disk_message
from esmerge.tasks.load import check_benchmarks
from esmerge.tracking.callback import started_folder
from esmerge.tracking.results import run_folders
from esmerge.tracking.resume import resuming_command
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
    code: int | str | None = 0
    try:
        job()
    except KeyboardInterrupt:
        code = "stopped"
    except SystemExit as stop:
        code = stop.code
    folder = started_folder()
    failed = 0 if folder is None else _report(folder)
    if folder is not None and (code or failed):
        print(f"this goes on from what is finished:\n  {resuming_command(folder)}", file=sys.stderr)
    sys.exit(code or failed)


def _report(folder: Path) -> int | str:
    """Report on what is finished; returns the exit code, or why there is no report."""
    try:
        return finish(folder) if folder.is_dir() and run_folders(folder) else 0
    except BenchError as error:
        return f"error: {error}"
    except OSError as error:
        return f"error: {disk_message(error, folder)}"


if __name__ == "__main__":
    main()
