"""Front door: rebuild tables and figures of a sweep. ``python -m src.report folder=outputs/<sweep>``."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from esmerge.cli.command_line import prepare_command_line
from esmerge.core.command import name_commands_in_help
from esmerge.core.errors import BenchError
from esmerge.core.paths import CONF, user_path
from esmerge.core.terminal import show_everywhere
from esmerge.report.build import build_report
from esmerge.report.terminal import show
from esmerge.storage.usable import check_folder
from esmerge.tracking.results import latest_sweep

name_commands_in_help()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="report")
def job(config: DictConfig) -> None:
    """Read, write, show."""
    try:
        outputs = user_path(str(config.outputs), "outputs")
        folder = user_path(str(config.folder), "folder") if config.folder else latest_sweep(outputs)
        if folder.is_dir():
            check_folder(folder, "folder")
        report = build_report(folder)
    except BenchError as error:
        sys.exit(f"error: {error}")
    show(report.tables, report.paths, report.verdict)


def main() -> None:
    """The job, on every terminal."""
    show_everywhere()
    prepare_command_line()
    job()


if __name__ == "__main__":
    main()
