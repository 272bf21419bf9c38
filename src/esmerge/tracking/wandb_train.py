"""W&B runs of a command that trains: the curve of each training, and one run with the exam and what was trained.

A training that goes on after an interruption goes on in the same W&B run: offline its earlier losses, which its
checkpoint keeps, are logged again, so that the newest file holds the whole curve.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from esmerge.core.observed import Tell, Training
from esmerge.core.secrets import redacted
from esmerge.storage.cache import digest
from esmerge.tracking.lineage import SpecialistSource
from esmerge.tracking.wandb_artifacts import artifact_of, specialist_product
from esmerge.tracking.wandb_client import client_mode
from esmerge.tracking.wandb_record import LoggedRun, read_logged, write_logged
from esmerge.tracking.wandb_run import Identity, restart_client, wandb_run
from esmerge.tracking.wandb_settings import Tracking
from esmerge.tracking.wandb_shared import log_shared

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment

JOB_TYPE = "train"
MOST_POINTS = 200  # of a curve: logging a point costs as much as a small update
PARTIAL = ".partial"  # ends the name of a checkpoint's folder


@dataclass
class TrainingLog:
    """Where a command's trainings are logged.

    Attributes:
        folder: which holds ``wandb`` and one record for each training.
        group: of all W&B runs of the command.
        config: the command's.
        trainings: how many were logged.
    """

    settings: Tracking
    folder: Path
    group: str
    config: Mapping[str, object]
    trainings: int = 0

    @property
    def mode(self) -> str:
        return client_mode(self.settings.mode, self.settings.parent(self.folder))

    @contextmanager
    def observe(self, training: Training) -> Iterator[Tell]:
        """Log a training while it lasts; a failure of W&B ends its curve and nothing else."""
        self.trainings += 1
        curve = Curve(training)
        ending = self._begin(curve)
        try:
            yield curve.add
        except BaseException as error:
            _end(curve, ending, error)
            raise
        curve.flush()
        _end(curve, ending, None)

    def log_exam(
        self,
        title: str,
        recorded: Mapping[str, object],
        exam: object,
        specialists: Sequence[SpecialistSource],
    ) -> None:
        """Log what the command has at its end: the exam's figures, what training recorded, and the specialists.

        Args:
            title: of the W&B run.
            recorded: by stage; its numbers are shown under ``recorded/``.
            exam: a mapping of ``figures`` and, where that is decided, whether it was ``passed``; None for no exam.
        """
        numbers = {f"recorded/{name}": value for name, value in flat_numbers(recorded)}
        grades = exam if isinstance(exam, Mapping) else {}
        figures = {f"exam/{name}": value for name, value in flat_numbers(grades.get("figures"))}
        passed = {"exam/passed": grades["passed"]} if "passed" in grades else {}

        def fill(run: wandb.Run) -> None:
            run.summary.update({**numbers, **figures, **passed})
            for source in specialists:
                run.log_artifact(artifact_of(specialist_product(source), self.settings.upload))

        content = digest([numbers, figures, passed, [source.digest for source in specialists]])
        record = self.folder / f"exam-{digest(dict(self.config))}"
        identity = Identity(self.group, title, JOB_TYPE, ["exam"])
        log_shared(self.settings, self.mode, self.folder, record, identity, self.config, fill, content)

    def _begin(self, curve: Curve) -> ExitStack:
        """Start a training's W&B run, or go on with it; returns what ends it."""
        mode, ending = self.mode, ExitStack()
        if mode == "disabled":
            return ending
        training, stage = curve.training, _stage(curve.training)
        record, identity = (
            self.folder / stage,
            Identity(self.group, training.title, JOB_TYPE, [stage.rpartition("-")[0]]),
        )
        config = {**self.config, "training": {"title": training.title, "stage": stage, "steps": training.steps}}
        try:
            stored = read_logged(record) if training.losses else None
            resumed = stored is not None and stored.mode == mode == "online"
            identity = identity if stored is None else replace(identity, id=stored.id)
            parent = self.settings.parent(self.folder)
            run = ending.enter_context(wandb_run(self.settings, mode, parent, identity, config, resume=resumed))
            write_logged(record, LoggedRun(run.id, mode, str(run.settings.sync_dir)))
            curve.start(run, again=not resumed)
        except Exception as error:
            curve.give_up(error)
        return ending


@dataclass
class Curve:
    """The losses of a training, averaged over neighbouring steps, and how many examples a second go by."""

    training: Training
    run: wandb.Run | None = None
    _losses: list[float] = field(default_factory=list)
    _step: int = 0
    _clock: float = 0.0

    @property
    def width(self) -> int:
        """Steps of a point."""
        return -(-self.training.steps // MOST_POINTS)

    def start(self, run: wandb.Run, again: bool) -> None:
        """Log to a run from now on.

        Args:
            again: also the losses of an earlier process.
        """
        self.run = run
        run.define_metric("train/loss", summary="last,min")
        for step, loss in enumerate(self.training.losses if again else ()):
            self.add(step, loss)
        self.flush()
        self._clock = time.perf_counter()

    def add(self, step: int, loss: float) -> None:
        """One more step."""
        self._losses.append(loss)
        self._step = step
        if len(self._losses) == self.width:
            self.flush()

    def flush(self) -> None:
        """Log a point of the steps since the last one."""
        losses, self._losses = self._losses, []
        if self.run is None or not losses:
            return
        point = {"train/loss": sum(losses) / len(losses)}
        if self._clock:  # else they are of an earlier process
            now = time.perf_counter()
            rate, self._clock = len(losses) / max(now - self._clock, 1e-9), now
            point["train/steps_per_second"] = rate
            if self.training.batch:
                point["train/samples_per_second"] = rate * self.training.batch
        try:
            self.run.log(point, step=self._step)
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """Log no more, and say why."""
        self.run = None
        restart_client()
        reason = redacted(f"{type(error).__name__}: {error}")
        warnings.warn(f"{self.training.title} was not tracked by W&B ({reason}); it goes on", stacklevel=4)


def _end(curve: Curve, ending: ExitStack, error: BaseException | None) -> None:
    """End the W&B run of a training, as failed where the training is left by an error."""
    try:
        ending.__exit__(None if error is None else type(error), error, None)
    except Exception as failure:
        if failure is not error:
            curve.give_up(failure)


def flat_numbers(record: object, above: str = "") -> Iterator[tuple[str, float]]:
    """Name -> number, of every number in nested mappings; names are joined by a slash."""
    if isinstance(record, Mapping):
        for name, value in record.items():
            yield from flat_numbers(value, f"{above}/{name}" if above else str(name))
    elif isinstance(record, int | float) and not isinstance(record, bool):
        yield above, float(record)


def _stage(training: Training) -> str:
    """``kind-key`` of what is trained, as the cache names it; without a checkpoint, of its title."""
    if training.checkpoint is None:
        return f"training-{digest(training.title)}"
    return f"{training.checkpoint.parent.name}-{training.checkpoint.name.removesuffix(PARTIAL)}"
