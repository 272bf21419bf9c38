"""Weights & Biases: one run per merge and per reference, grouped by sweep.

Offline is the default and needs no account, no network and no prompt. Files lie under ``<sweep>/wandb`` and can be
sent later with ``wandb sync``. Tracking never decides about a result: a failure is reported and recorded, no more.
"""

from __future__ import annotations

import os
import time
import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from esmerge.coefficients.summary import CoefficientSummary
from esmerge.core.errors import ConfigError, TrackingError
from esmerge.core.paths import user_path
from esmerge.core.secrets import redacted, redacted_values
from esmerge.tracking.store import RESULT_COLUMNS, RunFolder
from esmerge.tracking.wandb_client import (
    TRACKING_MODES,
    check_address,
    client,
    client_environment,
    client_mode,
    client_settings,
    logged_in,
    passing_client,
    stricter,
)

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment

NOT_IN_PROJECTS, LONGEST_NAME = "/\\#?%:", 128  # W&B refuses others
TAG_AXES = ("method", "granularity", "merge_space", "probe")


@dataclass(frozen=True)
class Tracking:
    """Settings of tracking (config group ``tracking``).

    Attributes:
        mode: ``offline``, ``online`` or ``disabled``.
        project: W&B project.
        entity: W&B user or team; None for the account's default.
        folder: where the ``wandb`` folder goes; None for the sweep folder.
        timeout: seconds to wait for the W&B server before a run counts as not tracked.
    """

    mode: str = "offline"
    project: str = "es-merging-bench"
    entity: str | None = None
    folder: str | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.mode not in TRACKING_MODES:
            raise ConfigError(f"tracking.mode={self.mode!r} must be one of {', '.join(TRACKING_MODES)}")
        if set(NOT_IN_PROJECTS) & set(self.project) or not 0 < len(self.project) <= LONGEST_NAME:
            raise ConfigError(
                f"tracking.project={self.project!r}: W&B takes 1 to {LONGEST_NAME} characters, none of "
                f"{' '.join(NOT_IN_PROJECTS)}"
            )
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
            warnings.warn(
                f"tracking=online, but W&B is set to {mode} here (WANDB_MODE or `wandb {mode}`)", stacklevel=2
            )
        elif not logged_in():
            raise TrackingError(
                f"tracking=online, but there is no W&B API key for {host}: run `wandb login`, or set WANDB_API_KEY, or "
                "use tracking=offline (default) and `wandb sync` later"
            )


def log_run(
    settings: Tracking,
    run_folder: RunFolder,
    config: Mapping[str, object],
    group: str,
    name: str,
    job_type: str,
    rows: Sequence[Mapping[str, object]],
    images: Mapping[str, Path],
    coefficients: tuple[Path, CoefficientSummary] | None = None,
) -> float:
    """Log one finished run.

    Args:
        run_folder: records ``tracking_error`` if logging fails.
        config: the resolved configuration.
        group: the sweep's name.
        name: the run's name.
        job_type: ``merge`` or ``reference``.
        rows: the run's rows of ``results.csv``.
        images: title -> PNG.
        coefficients: the stored merging weights and their summary, if the method has them.

    Returns:
        Seconds spent; 0 when disabled.
    """
    clock, parent = time.perf_counter(), settings.parent(run_folder.path.parent)
    mode = client_mode(settings.mode, parent)
    if mode == "disabled":
        return 0.0
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with client_environment(mode, parent):
            options = client_settings(mode, parent, settings.timeout)
            _send(settings, options, config, (group, name, job_type), rows, images, coefficients)
    except Exception as error:  # whatever the client or the server does, the results are on disk already
        reason = redacted(f"{type(error).__name__}: {error}")
        run_folder.note_tracking_error(reason)
        _restart_client()
        warnings.warn(f"run {name} was not tracked by W&B ({reason}); its results are stored regardless", stacklevel=2)
    return time.perf_counter() - clock


def _send(
    settings: Tracking,
    options: wandb.Settings,
    config: Mapping[str, object],
    identity: tuple[str, str, str],
    rows: Sequence[Mapping[str, object]],
    images: Mapping[str, Path],
    coefficients: tuple[Path, CoefficientSummary] | None,
) -> None:
    import wandb  # late: its import takes most of a second and reads the environment

    group, name, job_type = identity
    run = wandb.init(
        project=settings.project,
        entity=settings.entity,
        config=redacted_values(config),
        tags=_tags(rows),
        settings=options,
        id=uuid.uuid4().hex[:8],  # even where the client took one from the environment before
        reinit="create_new",
        group=group[:LONGEST_NAME],
        name=name[:LONGEST_NAME],
        job_type=job_type,
    )
    code = 1
    try:
        run.summary.update(_summary(rows))
        media = {title: wandb.Image(str(path)) for title, path in images.items()}
        run.log({"metrics": _table(rows), **media})
        if coefficients is not None:
            path, summary = coefficients
            run.log(_histograms(summary))
            artifact = wandb.Artifact(f"coefficients-{run.id}", type="coefficients")
            artifact.add_file(str(path), name="coefficients.safetensors")
            run.log_artifact(artifact)
        code = 0
    finally:
        run.finish(exit_code=code)


def _restart_client() -> None:
    """Let the next run start W&B's process anew: one that has died would fail every later run, too."""
    with suppress(Exception):  # a client whose process is gone says so in many ways
        import wandb

        wandb.teardown()


def _histograms(summary: CoefficientSummary) -> dict[str, wandb.Histogram]:
    """How often each merging weight occurs, by expert."""
    import wandb

    counts = summary.counts.items()
    return {f"weights/{expert}": wandb.Histogram(np_histogram=(count, summary.edges)) for expert, count in counts}


def _summary(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """``benchmark/metric`` -> value, without the empty ones."""
    values = {f"{row['benchmark']}/{row['metric']}": row["value"] for row in rows}
    return {
        name: float(value) for name, value in values.items() if isinstance(value, (int, float)) and np.isfinite(value)
    }


def _table(rows: Sequence[Mapping[str, object]]) -> wandb.Table:
    import wandb

    cells: list[Iterable[object]] = [[_cell(row.get(column)) for column in RESULT_COLUMNS] for row in rows]
    return wandb.Table(columns=list(RESULT_COLUMNS), data=cells, allow_mixed_types=True)


def _cell(value: object) -> object:
    """Plain Python values; NaN becomes None, an empty cell."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


def _tags(rows: Sequence[Mapping[str, object]]) -> list[str]:
    tags = {str(row[axis]) for row in rows for axis in TAG_AXES if row.get(axis)}
    return sorted(tag[:64] for tag in tags)  # W&B refuses longer ones
