"""What W&B shows of a command that trains specialists: where its records lie, and what is logged at its end."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from esmerge.core.schema import typed
from esmerge.core.secrets import redacted
from esmerge.experiment.lineage import specialist_sources
from esmerge.experiment.teaching import Taught
from esmerge.experiment.weights import examined
from esmerge.specialists.families.custom.settings import LearnerSettings
from esmerge.specialists.specialists import Specialists
from esmerge.storage.usable import check_folder
from esmerge.tracking.wandb_settings import Tracking, check_login
from esmerge.tracking.wandb_train import TrainingLog

FOLDER = "training"  # beside the cache


def training_log(raw: Mapping[str, Any], name: str, cache: Path) -> TrainingLog:
    """The log of a command, checked before anything is trained.

    Args:
        raw: the command's config.
        name: of what is trained.
        cache: beside which the records lie.

    Raises:
        TrackingError: W&B would refuse it.
        StoreError: nothing can be written there.
    """
    tracking = typed(Tracking, raw["tracking"], "tracking")
    check_login(tracking)
    folder = cache.parent / FOLDER
    if tracking.mode != "disabled":
        check_folder(tracking.parent(folder), "tracking.folder")
    config = {"specialists": raw["specialists"], "seed": raw["seed"], "device": raw["device"]}
    return TrainingLog(tracking, folder, f"train-{name}-s{raw['seed']}", config)


def log_end(log: TrainingLog, specialists: Specialists, settings: object, card: Mapping[str, object]) -> None:
    """Log the exam and the specialists, if anything was trained now or written; what goes wrong here is only told.

    Args:
        settings: of the family.
        card: of what was written; empty where nothing was. It holds the exam's figures, which are asked for else.
    """
    if log.trainings or card:
        _log_exam(log, specialists, settings, lambda: (card or examined(specialists)).get("exam"))


def log_taught(log: TrainingLog, taught: Taught, settings: LearnerSettings) -> None:
    """The same for one specialist that was taught alone."""
    if log.trainings:
        _log_exam(
            log, taught.specialists, settings, lambda: {"figures": {k: asdict(v) for k, v in taught.grades.items()}}
        )


def _log_exam(log: TrainingLog, specialists: Specialists, settings: object, exam: Callable[[], object]) -> None:
    if log.mode == "disabled":
        return
    try:
        sources = specialist_sources(specialists, settings)
        log.log_exam(f"{log.group}: exam", specialists.metadata, exam(), sources)
    except Exception as error:
        warnings.warn(redacted(f"the exam was not tracked by W&B ({error}); nothing else is lost"), stacklevel=3)
