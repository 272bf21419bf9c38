"""Front door: merge adapters of your own. ``python -m src.merge backbone=… experts.NAME=… probe.file=… out=…``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from esmerge.cli.command_line import prepare_command_line
from esmerge.cli.common import quiet
from esmerge.cli.composing import start
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.core.stopping import stoppable
from esmerge.experiment.standalone.plan import plan_merge
from esmerge.experiment.standalone.request import read_request
from esmerge.experiment.standalone.terminal import show_plan, show_result
from esmerge.experiment.standalone.write import carry_out


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="merge")
def job(config: DictConfig) -> None:
    """Check everything, say what will be done, and do it unless only the plan was asked for."""
    try:
        plan = plan_merge(read_request(config))
        show_plan(plan)
        if not plan.request.output.dry_run:
            show_result(plan, carry_out(plan))
    except BenchError as error:
        sys.exit(f"error: {error}")


@stoppable
def main() -> None:
    """Quiet libraries, then the job."""
    quiet()
    prepare_command_line()
    start(job)


if __name__ == "__main__":
    main()
