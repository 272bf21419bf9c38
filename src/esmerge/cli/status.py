"""Front door: how far a sweep is, from any shell. ``python -m src.status``."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

import hydra
from omegaconf import DictConfig
from rich.console import Console

from esmerge.cli.command_line import prepare_command_line
from esmerge.cli.composing import start
from esmerge.cli.progress_table import progress_lines, progress_table
from esmerge.cli.showing import EVERY, is_lively, showing
from esmerge.core.command import explain_commands_in_help
from esmerge.core.errors import BenchError, ConfigError
from esmerge.core.paths import CONF, user_path
from esmerge.core.terminal import show_everywhere
from esmerge.tracking.results import latest_sweep
from esmerge.tracking.survey import Surveyor

explain_commands_in_help()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="status")
def job(config: DictConfig) -> None:
    """Look once, or until no process is at it."""
    try:
        if not isinstance(config.watch, bool):
            raise ConfigError(f"watch={config.watch!r}: expected true or false")
        outputs = user_path(str(config.outputs), "outputs")
        folder = user_path(str(config.folder), "folder") if config.folder else latest_sweep(outputs, begun=True)
        surveyor = Surveyor(folder)
        if config.watch:
            watch(surveyor)
        else:
            print_status(surveyor)
    except BenchError as error:
        sys.exit(f"error: {error}")


def print_status(surveyor: Surveyor) -> None:
    """A table on a terminal, lines elsewhere."""
    progress = surveyor.look()
    if is_lively(sys.stdout):
        Console().print(progress_table(progress))
    else:
        print("\n".join(progress_lines(progress)))


def watch(surveyor: Surveyor) -> None:
    """Show it while a process carries the sweep out; Ctrl-C ends the watching, not the sweep."""
    surveyor.look()  # refuses an absent folder
    with suppress(KeyboardInterrupt), showing(surveyor.folder, sys.stdout):
        while surveyor.look().at_work:
            time.sleep(EVERY)


def main() -> None:
    """The job, on every terminal."""
    show_everywhere()
    prepare_command_line()
    start(job)


if __name__ == "__main__":
    main()
