"""The run store: one folder per run, which says at any moment what is in it and whether to believe it.

A run folder is worked on by one process at a time (a file lock). Its ``status.json`` says pending, running, done or
failed; a folder that says running while nobody holds the lock was killed. What a run has finished survives a kill and
is used again, if the configuration is the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from filelock import BaseFileLock, FileLock, Timeout
from omegaconf import OmegaConf

from esmerge.core.errors import ConfigError, StoreError
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.core.secrets import redacted
from esmerge.core.text_files import read_text
from esmerge.storage.checksums import checksums, damage
from esmerge.storage.files import read_json, read_table, remove_partial, replacing, write_json, write_table, write_text

if TYPE_CHECKING:
    from torch import Tensor  # a report reads this store and does without torch

AXES = ("run", "specialists", "method", "granularity", "probe", "merge_space", "seed")
RESULT_COLUMNS = (*AXES, "benchmark", "metric", "value", "ci_low", "ci_high", "n")
NUMBERS = ("value", "ci_low", "ci_high")
KILLED = "stopped half-way; the same command with resume=latest, or sweep=NAME of this folder, goes on"
AGAIN = "the same command makes it again"
RESULTS_OF_A_RUN = ("predictions", "metrics.csv", "benchmarks.json", "coefficients.safetensors",
                    "layer_coefficients.csv", "layer_distances.csv", "adapter", "adapters", "costs.json",
                    "tuning.csv", "lineage.json", "wandb.json")  # fmt: skip
REPORTED = ("predictions", "metrics.csv", "benchmarks.json", "layer_coefficients.csv", "layer_distances.csv",
            "costs.json", "tuning.csv")  # fmt: skip


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


class RunFolder:
    """One run's folder, ``outputs/<sweep>/<run>/``.

    Typical use::

        with run.lock():
            run.write_method(record)
            if not run.is_done(wanted):
                with run.working(config, wanted):
                    ...
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.coefficients = self.path / "coefficients.safetensors"

    @property
    def name(self) -> str:
        return self.path.name

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
            self._write(Status())  # first: a kill while deleting must not leave half a result under the old hash
            self._clear()
        write_text(self.path / "config.yaml", redacted(OmegaConf.to_yaml(OmegaConf.create(dict(config)), resolve=True)))
        clock = time.perf_counter()
        self._write(Status(state="running", config_hash=config_hash, started=utc_now()))
        try:
            yield
        except BaseException as error:
            self._end("failed", clock, redacted(f"{type(error).__name__}: {error}".removesuffix(": ")))
            raise
        self._end("done", clock)

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

    def write_method(self, record: MethodRecord) -> Path:
        """Say what the run's method is. It decides no result, so it may be written again for a run that is done."""
        return write_json(self.path / "method.json", asdict(record))

    def read_method(self) -> MethodRecord:
        """What the run's method is.

        Raises:
            StoreError: the folder does not say, or says it in other words.
        """
        path, again = self.path / "method.json", "run the sweep again (what is finished stays as it is)"
        if not path.exists():
            raise StoreError(f"{self.path} does not say what its method is, it has no {path.name}: {again}")
        try:
            stored = MethodRecord(**read_json(path))
            return replace(stored, kind=MethodKind(stored.kind))
        except (TypeError, ValueError) as error:
            raise StoreError(f"{path} says of its method what is not understood ({error}): {again}") from error

    def write_predictions(self, benchmark: str, predictions: pd.DataFrame) -> Path:
        """Store a finished benchmark's predictions, one row per example."""
        return write_table(self.path / "predictions" / f"{benchmark}.csv", predictions)

    def read_predictions(self, benchmark: str) -> pd.DataFrame | None:
        """The stored predictions, or None if that benchmark is not finished; ``score`` columns are numbers."""
        path = self.path / "predictions" / f"{benchmark}.csv"
        return read_table(path, numbers=("score",)) if path.exists() else None

    def write_metrics(self, rows: Sequence[Mapping[str, object]]) -> Path:
        """Store this run's rows of ``results.csv``; axes that do not apply may be absent or None."""
        unknown = sorted({key for row in rows for key in row} - set(RESULT_COLUMNS))
        if unknown:
            raise StoreError(f"metrics of {self.name} have column(s) {unknown}, expected {', '.join(RESULT_COLUMNS)}")
        return write_table(self.path / "metrics.csv", pd.DataFrame(list(rows), columns=list(RESULT_COLUMNS)))

    def read_metrics(self) -> pd.DataFrame:
        """This run's rows in the columns of ``results.csv``; axes are text, ``""`` where one does not apply."""
        path = self.path / "metrics.csv"
        frame = read_table(path, numbers=NUMBERS)
        if tuple(frame.columns) != RESULT_COLUMNS:
            raise StoreError(f"{path} has columns {list(frame.columns)}, expected {', '.join(RESULT_COLUMNS)}")
        return frame.astype({"n": int})

    def write_benchmarks(self, benchmarks: Mapping[str, Mapping[str, object]]) -> Path:
        """Store what was asked: benchmark -> ``title, family, labels, n, checksum, limit, split, shots`` and others."""
        return write_json(self.path / "benchmarks.json", benchmarks)

    def read_benchmarks(self) -> dict[str, dict[str, object]]:
        """What was asked; empty if nothing was stored."""
        path = self.path / "benchmarks.json"
        return read_json(path) if path.exists() else {}

    def write_coefficients(self, tensors: Mapping[str, Tensor]) -> Path:
        """Store merging weights under the names of ``Coefficients.tensors``."""
        from esmerge.storage.tensor_stream import write_tensors  # late: imports torch, which a report does without

        with replacing(self.coefficients) as partial:
            write_tensors(partial, tensors)
        return self.coefficients

    def write_costs(self, costs: Mapping[str, Mapping[str, float | None]]) -> Path:
        """Store what work cost: ``measuring`` and ``merging`` -> ``seconds`` and ``memory`` (MiB)."""
        return write_json(self.path / "costs.json", costs)

    def read_costs(self) -> dict[str, dict[str, float | None]]:
        """What was stored by ``write_costs``; empty for runs that merge nothing."""
        path = self.path / "costs.json"
        return read_json(path) if path.exists() else {}

    def write_layer_coefficients(self, rows: Sequence[Mapping[str, object]]) -> Path:
        """Write ``layer_coefficients.csv``: expert, layer, coefficient, and its standard errors."""
        return write_table(self.path / "layer_coefficients.csv", pd.DataFrame(rows))

    def write_layer_distances(self, rows: Sequence[Mapping[str, object]]) -> Path:
        """Write ``layer_distances.csv``: expert, modality, whether it is its own, layer, distance and increment."""
        return write_table(self.path / "layer_distances.csv", pd.DataFrame(rows))

    def read_layer_distances(self) -> pd.DataFrame | None:
        """What was stored by ``write_layer_distances``; None for runs without layer-wise coefficients."""
        path = self.path / "layer_distances.csv"
        if not path.exists():
            return None
        frame = read_table(path, numbers=("distance", "increment"))
        return frame.astype({"layer": int}).assign(own=frame["own"] == "True")

    def write_tuning(self, trials: pd.DataFrame) -> Path:
        """Store the trials of a tuned method: settings, and the validation accuracy they reached or the ``failure``."""
        return write_table(self.path / "tuning.csv", trials)

    def read_tuning(self) -> pd.DataFrame | None:
        """The trials, numbers and texts of failures; None for a run with published settings."""
        path = self.path / "tuning.csv"
        return pd.read_csv(io.StringIO(read_text(path))) if path.exists() else None

    def write_provenance(self, record: Mapping[str, object]) -> Path:
        """Store where the results came from."""
        return write_json(self.path / "provenance.json", record)

    def read_provenance(self) -> dict[str, object]:
        """Where the results came from; empty if nothing was stored."""
        path = self.path / "provenance.json"
        return read_json(path) if path.exists() else {}

    def read_config(self) -> dict[str, object]:
        """The resolved configuration; empty if none was stored."""
        path = self.path / "config.yaml"
        if not path.exists():
            return {}
        config = OmegaConf.to_container(OmegaConf.load(io.StringIO(read_text(path))))
        return {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}

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
