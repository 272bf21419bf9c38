"""Front door: merge specialists, ask benchmarks. ``python -m src.sweep -m granularity=layer,element,joint``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.config import read_sweep
from src.errors import BenchError
from src.frontdoor import CONF, finish, quiet, sweep_folder
from src.runs.execute import execute_all, objective
from src.runs.plan import plan
from src.runs.session import Session
from src.tasks.load import check_benchmarks
from src.tracking.callback import started_folder
from src.tracking.results import run_folders
from src.tracking.wandb_log import check_login


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def job(config: DictConfig) -> float | None:
    """One job of the sweep: the references that are not there yet, and one merge; returns what a search maximises."""
    try:
        sweep = read_sweep(config)
        check_benchmarks(sweep)
        check_login(sweep.tracking)
        specs, session, folder = plan(sweep), Session(sweep), sweep_folder()
        execute_all(specs, session, folder)
        return objective(folder, specs[-1], session)
    except BenchError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    """Run every job, then report; a job that ends early still leaves a report of what is finished."""
    quiet()
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
