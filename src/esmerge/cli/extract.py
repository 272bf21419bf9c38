"""Front door: LoRA factors of a full fine-tune. ``python -m src.extract backbone=… tuned=… rank=16 out=…``."""

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
from esmerge.experiment.extraction.plan import plan_extraction
from esmerge.experiment.extraction.request import read_extraction
from esmerge.experiment.extraction.terminal import show_comparison, show_residuals
from esmerge.experiment.extraction.write import extract


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="extract")
def job(config: DictConfig) -> None:
    """Compare the checkpoints, say what changed, and extract unless only that was asked for."""
    try:
        plan = plan_extraction(*read_extraction(config))
        show_comparison(plan)
        if not plan.settings.dry_run:
            show_residuals(extract(plan))
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
