"""Front door: rebuild tables and figures of a sweep. ``python -m src.report folder=outputs/<sweep>``."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from esmerge.core.command import name_commands_in_help
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF
from esmerge.report.build import build_report
from esmerge.report.terminal import show
from esmerge.tracking.results import latest_sweep

name_commands_in_help()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="report")
def main(config: DictConfig) -> None:
    """Read, write, show."""
    try:
        folder = Path(config.folder) if config.folder else latest_sweep(config.outputs)
        report = build_report(folder)
    except BenchError as error:
        sys.exit(f"error: {error}")
    show(report.tables, report.paths, report.verdict)


if __name__ == "__main__":
    main()
