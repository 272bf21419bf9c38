"""Where this process's sweep writes: Hydra tells when a run or multirun starts."""

from __future__ import annotations

from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

_FOLDERS: list[Path] = []


class RememberFolder(Callback):
    """Notes the sweep folder, so that the front door can report on it when all jobs are over."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        _FOLDERS.append(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        _FOLDERS.append(Path(config.hydra.sweep.dir))


def started_folder() -> Path | None:
    """The folder of the sweep that this process started, if it started one."""
    return _FOLDERS[-1] if _FOLDERS else None
