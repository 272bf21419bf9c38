"""Front door: a released specialist taken apart. ``python -m src.unpack release=… checkpoint=… backbone=… out=…``."""

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
from esmerge.experiment.unpacking.plan import plan_unpacking
from esmerge.experiment.unpacking.request import read_unpacking
from esmerge.experiment.unpacking.write import show_placement, unpack


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="unpack")
def job(config: DictConfig) -> None:
    """Place every tensor, say where, and write unless only that was asked for."""
    try:
        plan = plan_unpacking(*read_unpacking(config))
        show_placement(plan)
        if not plan.settings.dry_run:
            unpack(plan)
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
