"""Settings of tracking, and what of them W&B would refuse."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from esmerge.core.errors import ConfigError, TrackingError
from esmerge.core.paths import user_path
from esmerge.tracking.wandb_client import (
    TRACKING_MODES,
    check_address,
    client,
    logged_in,
    name_variables,
    passing_client,
    stricter,
)

NOT_IN_PROJECTS, LONGEST_NAME = "/\\#?%:", 128  # W&B refuses others

name_variables()  # wherever the settings of tracking are read


@dataclass(frozen=True)
class Tracking:
    """Settings of tracking (config group ``tracking``).

    Attributes:
        mode: ``offline``, ``online`` or ``disabled``.
        project: W&B project.
        entity: W&B user or team; None for the account's default.
        folder: where the ``wandb`` folder goes; None for the sweep folder.
        timeout: seconds to wait for the W&B server before a run counts as not tracked.
        predictions: answers to each benchmark that a run's table shows, the first ones; 0 for no table.
        upload: MB up to which a file of an artifact is sent; of a larger one, size and checksum. None for every file.
    """

    mode: str = "offline"
    project: str = "es-merging-bench"
    entity: str | None = None
    folder: str | None = None
    timeout: float = 60.0
    predictions: int = 100
    upload: float | None = 10.0

    def __post_init__(self) -> None:
        if self.mode not in TRACKING_MODES:
            raise ConfigError(
                f"tracking.mode={self.mode!r} must be one of {', '.join(TRACKING_MODES)}; where nobody typed "
                "tracking=, it is what WANDB_MODE says"
            )
        if set(NOT_IN_PROJECTS) & set(self.project) or not 0 < len(self.project) <= LONGEST_NAME:
            raise ConfigError(
                f"tracking.project={self.project!r}: W&B takes 1 to {LONGEST_NAME} characters, none of "
                f"{' '.join(NOT_IN_PROJECTS)}"
            )
        if self.predictions < 0:
            raise ConfigError(f"tracking.predictions={self.predictions}: expected a number of rows from 0")
        if self.upload is not None and not self.upload >= 0:
            raise ConfigError(f"tracking.upload={self.upload}: expected a number of MB from 0, or null for every file")
        self.parent(Path())

    def parent(self, sweep: Path) -> Path:
        """The folder that the ``wandb`` folder of a sweep goes into."""
        return user_path(self.folder, "tracking.folder") if self.folder else sweep


def check_login(settings: Tracking) -> None:
    """Before any work is done: refuse what W&B would refuse later. Asks nothing and uses no network.

    Raises:
        TrackingError: ``online`` without credentials, a server address without a scheme, or a variable that the client
            cannot read.
    """
    if settings.mode == "disabled":
        return
    check_address("WANDB_BASE_URL", os.environ.get("WANDB_BASE_URL"))
    if settings.mode != "online":
        return
    with passing_client(settings.mode):
        stored = client().read_system_settings()
        check_address(f"base_url in {' or '.join(map(str, stored.sources))}", stored.all().get("base_url"))
        mode, host = stricter(settings.mode, client().mode), client().base_url
        if mode != settings.mode:
            warnings.warn(f"tracking=online, but W&B is set to {mode} here (`wandb {mode}`)", stacklevel=2)
        elif not logged_in():
            raise TrackingError(
                f"tracking=online, but there is no W&B API key for {host}: run `wandb login`, or set WANDB_API_KEY, or "
                "use tracking=offline (default) and `wandb sync` later"
            )
