"""Front door: merge adapters of your own. ``python -m src.merge backbone=… experts.NAME=… probe.file=… out=…``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from src.errors import BenchError
from src.frontdoor import CONF, quiet
from src.standalone.plan import make_plan
from src.standalone.request import read_request
from src.standalone.terminal import show_plan, show_result
from src.standalone.write import carry_out


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="merge")
def job(config: DictConfig) -> None:
    """Check everything, say what will be done, and do it unless only the plan was asked for."""
    try:
        plan = make_plan(read_request(config))
        show_plan(plan)
        if not plan.request.output.dry_run:
            show_result(plan, carry_out(plan))
    except BenchError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    """Quiet libraries, then the job."""
    quiet()
    job()


if __name__ == "__main__":
    main()
