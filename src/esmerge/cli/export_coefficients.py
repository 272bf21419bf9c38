"""Front door: coefficients for the authors' code. ``python -m src.export_coefficients coefficients=… out=…``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig
from rich.console import Console

from esmerge.cli.command_line import prepare_command_line
from esmerge.cli.common import quiet
from esmerge.cli.composing import start
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.experiment.standalone.coefficient_files import export_coefficients


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="export_coefficients")
def job(config: DictConfig) -> None:
    """Read, write, say where."""
    try:
        paths = export_coefficients(config)
    except BenchError as error:
        sys.exit(f"error: {error}")
    for path in paths:
        Console().print(str(path), soft_wrap=True, highlight=False, markup=False)


def main() -> None:
    """Quiet libraries, then the job."""
    quiet()
    prepare_command_line()
    start(job)


if __name__ == "__main__":
    main()
