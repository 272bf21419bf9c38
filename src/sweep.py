"""Front door: merge specialists, ask benchmarks. ``python -m src.sweep -m granularity=layer,element,joint``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.config import read_sweep
from src.errors import BenchError
from src.frontdoor import CONF, finish, quiet, sweep_folder
from src.runs.execute import execute_all
from src.runs.plan import plan
from src.runs.session import Session
from src.tasks.load import check_benchmarks
from src.tracking.callback import started_folder
from src.tracking.wandb_log import check_login


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="sweep")
def job(config: DictConfig) -> None:
    """One job of the sweep: the references that are not there yet, and one merge."""
    try:
        sweep = read_sweep(config)
        check_benchmarks(sweep)
        check_login(sweep.tracking)
        execute_all(plan(sweep), Session(sweep), sweep_folder())
    except BenchError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    """Run every job, then report on the whole sweep."""
    quiet()
    job()
    folder = started_folder()
    if folder is not None:
        sys.exit(finish(folder))


if __name__ == "__main__":
    main()
