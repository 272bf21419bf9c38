"""Where this process's sweep writes: Hydra tells when a run or multirun starts."""

from __future__ import annotations

import sys
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from esmerge.core.errors import StoreError
from esmerge.storage.usable import check_folder

_FOLDERS: list[Path] = []


class RememberFolder(Callback):
    """Notes the sweep folder, so that the front door can report on it when all jobs are over."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _remember(Path(config.hydra.run.dir), "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _remember(Path(config.hydra.sweep.dir), "hydra.sweep.dir")


def _remember(folder: Path, setting: str) -> None:
    """Note a folder that can be written; one that cannot ends the process here, before Hydra fails to make it."""
    try:
        check_folder(folder, setting)
    except StoreError as error:
        sys.exit(f"error: {error}")
    _FOLDERS.append(folder)


def started_folder() -> Path | None:
    """The folder of the sweep that this process started, if it started one."""
    return _FOLDERS[-1] if _FOLDERS else None
