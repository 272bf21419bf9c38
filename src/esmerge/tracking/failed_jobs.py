"""Jobs that ended without a run to hold them: refused, or broken before or between their runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import OmegaConf

from esmerge.storage.files import write_json, write_text
from esmerge.tracking.store import RunFolder, Status, config_hash, utc_now


def record_failed_job(sweep: Path, overrides: Sequence[str], reason: str) -> RunFolder:
    """A folder for a job of a sweep, whose status says failed and why; the report names it as it names a failed run.

    Its ``config.yaml`` holds the overrides.

    Args:
        sweep: the sweep folder.
        overrides: of the job; the same ones get the same folder.
        reason: one line.
    """
    run, now = _folder(sweep, overrides), utc_now()
    write_text(run.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({"overrides": list(overrides)})))
    write_json(run.path / "status.json", asdict(Status("failed", reason, _hash(overrides), now, now)))
    return run


def forget_failed_job(sweep: Path, overrides: Sequence[str]) -> None:
    """Remove what ``record_failed_job`` wrote of the same job, which is tried again."""
    shutil.rmtree(_folder(sweep, overrides).path, ignore_errors=True)


def _folder(sweep: Path, overrides: Sequence[str]) -> RunFolder:
    return RunFolder(sweep / f"job-{_hash(overrides)[:8]}")


def _hash(overrides: Sequence[str]) -> str:
    return config_hash({"overrides": list(overrides)})
