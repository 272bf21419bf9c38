"""Where this process's sweep writes: Hydra tells when a run or multirun starts."""

from __future__ import annotations

import sys
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from esmerge.core.errors import BenchError, ConfigError
from esmerge.storage.disk import disk_message
from esmerge.storage.usable import check_folder
from esmerge.tracking.resume import OUTPUTS, announce, sweep_folder_name

_FOLDERS: list[Path] = []


class RememberFolder(Callback):
    """Notes the sweep folder, so that the front door can report on it when all jobs are over, and says how to go on."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _remember(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _remember(config, "sweep")


def started_folder() -> Path | None:
    """The folder of the sweep that this process started, if it started one."""
    return _FOLDERS[-1] if _FOLDERS else None


def _remember(config: DictConfig, kind: str) -> None:
    """Ends the process with one line where a folder cannot be used: of an error here, Hydra would only warn."""
    sweep, resume = config.get("sweep"), config.get("resume")
    try:
        sweep_folder_name(sweep, resume, "")  # for its errors, which an interpolation would wrap into several lines
        folder = Path(config.hydra[kind].dir)
        if (sweep or resume) and folder.parent != Path(OUTPUTS):
            raise ConfigError(f"sweep= and resume= name a folder under {OUTPUTS}: leave hydra.{kind}.dir={folder} out")
        check_folder(folder, f"hydra.{kind}.dir")
    except BenchError as error:
        sys.exit(f"error: {error}")
    try:
        print(announce(folder), file=sys.stderr, flush=True)
    except OSError as error:
        sys.exit(f"error: {disk_message(error, folder)}")
    _FOLDERS.append(folder)
