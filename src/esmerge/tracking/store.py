"""The run store: one folder per run, which says at any moment what is in it and whether to believe it.

A run folder is worked on by one process at a time (a file lock). Its ``status.json`` says pending, running, done or
failed; a folder that says running while nobody holds the lock was killed. What a run has finished survives a kill and
is used again, if the configuration is the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from filelock import BaseFileLock, FileLock, Timeout
from omegaconf import OmegaConf

from esmerge.core.errors import ConfigError, StoreError
from esmerge.core.secrets import redacted
from esmerge.storage.checksums import checksums, damage
from esmerge.storage.files import read_json, remove_partial, write_json, write_text
from esmerge.tracking.run_files import RunFiles

KILLED = "stopped half-way; the same command with resume=latest, or sweep=NAME of this folder, goes on"
AGAIN = "the same command makes it again"
RESULTS_OF_A_RUN = ("predictions", "metrics.csv", "benchmarks.json", "coefficients.safetensors",
                    "layer_coefficients.csv", "layer_distances.csv", "adapter", "adapters", "costs.json",
                    "tuning.csv", "lineage.json", "inputs.json", "wandb.json")  # fmt: skip
REPORTED = ("config.yaml", "predictions", "metrics.csv", "benchmarks.json", "layer_coefficients.csv",
            "layer_distances.csv", "costs.json", "tuning.csv")  # fmt: skip


@dataclass(frozen=True)
class Status:
    """What ``status.json`` holds.

    Attributes:
        state: ``pending``, ``running``, ``done`` or ``failed``.
        reason: why it failed.
        config_hash: of the configuration the folder's results belong to.
        started, finished: UTC.
        seconds: wall time of the last attempt.
        stages: name -> seconds, of the last attempt.
        tracking_error: why W&B lacks this run, if it does; the results are not touched by it.
        checksums: SHA-256 of each file that a report reads, by its path in the folder; of a finished run.
    """

    state: str = "pending"
    reason: str | None = None
    config_hash: str | None = None
    started: str | None = None
    finished: str | None = None
    seconds: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    tracking_error: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)


class RunFolder(RunFiles):
    """One run's folder, ``outputs/<sweep>/<run>/``.

    Typical use::

        with run.lock():
            run.write_method(record)
            if not run.is_done(wanted):
                with run.working(config, wanted):
                    ...
    """

    def lock(self, timeout: float = -1) -> BaseFileLock:
        """The lock of this folder, for a ``with``: waits ``timeout`` seconds (-1: as long as it takes)."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock", timeout=timeout)

    def is_locked(self) -> bool:
        """True while some process, or another lock object of this one, holds the lock."""
        if not (self.path / ".lock").exists():
            return False
        try:
            with self.lock(timeout=0):
                return False
        except Timeout:
            return True

    def status(self) -> Status:
        """What the folder says of itself; a run whose ``status.json`` is damaged counts as failed.

        Raises:
            StoreError: the record has fields that a status does not.
        """
        path = self.path / "status.json"
        try:
            return Status(**read_json(path)) if path.exists() else Status()
        except StoreError:
            return Status(state="failed", reason=f"{path.name} is damaged; {AGAIN}")
        except TypeError as error:
            raise StoreError(f"{path} has fields that a status does not ({error}): delete it and run again") from error

    def outcome(self) -> Status:
        """The status, where a run that was killed, or whose results are damaged, counts as failed."""
        if self.status().state == "done" and (reason := self.damage()):
            return replace(self.status(), state="failed", reason=f"{reason}; {AGAIN}")
        return self.current()

    def current(self) -> Status:
        """The status, where a run that was killed counts as failed; results are believed as they are, in no time."""
        status = self.status()
        if status.state != "running" or self.is_locked():
            return status
        status = self.status()  # read again: it may have ended before its lock was looked at
        if status.state != "running":
            return status
        return replace(status, state="failed", reason=KILLED)

    def is_done(self, config_hash: str) -> bool:
        """Whether this very configuration has finished here, with its results as they were written."""
        status = self.status()
        finished = status.state == "done" and (self.path / "metrics.csv").exists()
        return finished and status.config_hash == config_hash and self.damage() is None

    def damage(self) -> str | None:
        """Which file that a report reads is not what it was, in words; None where every file is."""
        return damage(self.path, self.status().checksums)

    @contextmanager
    def working(self, config: Mapping[str, object], config_hash: str) -> Iterator[None]:
        """Mark the run as running, then as done, or as failed with the reason if the block raises.

        Results of another configuration are deleted first. Call it while holding the lock.
        """
        remove_partial(self.path)
        if self.status().config_hash != config_hash:
            self.discard()
        write_text(self.path / "config.yaml", redacted(OmegaConf.to_yaml(OmegaConf.create(dict(config)), resolve=True)))
        clock = time.perf_counter()
        self._write(Status(state="running", config_hash=config_hash, started=utc_now()))
        try:
            yield
        except BaseException as error:
            self._end("failed", clock, redacted(f"{type(error).__name__}: {error}".removesuffix(": ")))
            raise
        self._end("done", clock)

    def discard(self) -> None:
        """Delete the run's results, so that it is made again. Call it while holding the lock."""
        self._write(Status())  # first: a kill while deleting must not leave half a result under the old hash
        self._clear()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage into ``status.json``; repeated stages add up."""
        clock = time.perf_counter()
        try:
            yield
        finally:
            status = self.status()
            total = status.stages.get(name, 0.0) + time.perf_counter() - clock
            self._write(replace(status, stages={**status.stages, name: round(total, 3)}))

    def note_tracking_error(self, reason: str) -> None:
        """Record that W&B lacks this run."""
        self._write(replace(self.status(), tracking_error=redacted(reason)))

    def _clear(self) -> None:
        for name in RESULTS_OF_A_RUN:
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _end(self, state: str, clock: float, reason: str | None = None) -> None:
        seconds = round(time.perf_counter() - clock, 3)
        files = checksums(self.path, [self.path / name for name in REPORTED]) if state == "done" else {}
        ended = replace(self.status(), state=state, reason=reason, finished=utc_now(), seconds=seconds, checksums=files)
        self._write(ended)

    def _write(self, status: Status) -> None:
        write_json(self.path / "status.json", asdict(status))


def config_hash(config: Mapping[str, object]) -> str:
    """12 hex digits that name a configuration: SHA-256 of its sorted JSON.

    Raises:
        ConfigError: a value is not plain data, so that its text could change between processes.
    """
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    except TypeError as error:
        raise ConfigError(f"the configuration cannot be hashed ({error}): resolve it to plain values first") from error
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
