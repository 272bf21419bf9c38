"""Weights & Biases: one run per merge and per reference, grouped by sweep.

Offline is the default and needs no account, no network and no prompt. Files lie under ``<sweep>/wandb`` and can be
sent later with ``wandb sync``. Tracking never decides about a result: a failure is reported and recorded, no more.
"""

from __future__ import annotations

import netrc
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from esmerge.coefficients.summary import CoefficientSummary
from esmerge.core.errors import ConfigError, TrackingError
from esmerge.tracking.store import RESULT_COLUMNS, RunFolder

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment

TRACKING_MODES = ("offline", "online", "disabled")
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


def check_login(settings: Tracking) -> None:
    """Before any work is done: refuse ``online`` without credentials. Asks nothing and uses no network.

    Raises:
        TrackingError: no API key is in the environment or in the netrc file.
    """
    if settings.mode != "online" or _has_credentials(_host()):
        return
    raise TrackingError(
        f"tracking=online, but there is no W&B API key for {_host()}: run `wandb login`, or set WANDB_API_KEY, or use "
        "tracking=offline (default) and `wandb sync` later"
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
    if settings.mode == "disabled":
        return 0.0
    clock = time.perf_counter()
    home = Path(settings.folder) if settings.folder else run_folder.path.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _environment(settings, home):
            _send(settings, home, config, (group, name, job_type), rows, images, coefficients)
    except Exception as error:  # whatever the client or the server does, the results are on disk already
        reason = f"{type(error).__name__}: {error}"
        run_folder.note_tracking_error(reason)
        _restart_client()
        warnings.warn(f"run {name} was not tracked by W&B ({reason}); its results are stored regardless", stacklevel=2)
    return time.perf_counter() - clock


def _send(
    settings: Tracking,
    home: Path,
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
        config=dict(config),
        tags=_tags(rows),
        settings=_client_settings(settings, home),
        reinit="create_new",
        group=group,
        name=name,
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


def _client_settings(settings: Tracking, home: Path) -> wandb.Settings:
    """No console capture, no git, code or machine statistics: a run costs little, and tells nothing about the user."""
    import wandb

    options: dict[str, Any] = {
        "mode": settings.mode,
        "root_dir": str(home),
        "silent": True,
        "console": "off",
        "disable_git": True,
        "disable_code": True,
        "disable_job_creation": True,
        "init_timeout": settings.timeout,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "x_graphql_retry_max": 5,
        "x_file_transfer_retry_max": 5,
    }
    supported = type(wandb.Settings()).model_fields  # which differ between releases
    return wandb.Settings(**{key: value for key, value in options.items() if key in supported})


@contextmanager
def _environment(settings: Tracking, home: Path) -> Iterator[None]:
    """Keep W&B quiet and its staging, cache and logs beside the runs; restored afterwards."""
    variables = {
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str(home / "wandb" / "data"),
        "WANDB_CACHE_DIR": str(home / "wandb" / "cache"),
    }
    if settings.mode == "offline":
        variables["WANDB_ERROR_REPORTING"] = "false"  # crash reports are network traffic
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _host() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _has_credentials(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    usual = [str(Path.home() / ".netrc"), str(Path.home() / "_netrc")]
    for path in [os.environ["NETRC"]] if "NETRC" in os.environ else usual:
        try:
            credentials = netrc.netrc(path).authenticators(urlsplit(host).netloc)
        except (OSError, netrc.NetrcParseError):
            continue
        if credentials and credentials[2]:
            return True
    return False
