"""How far a sweep is, read from what lies on disk: by the sweep itself, or from any other shell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from statistics import fmean

from esmerge.core.progress import Step
from esmerge.tracking.planned import SweepPlan, read_plan, somebody_is_at_work
from esmerge.tracking.results import run_folders
from esmerge.tracking.steps import read_step
from esmerge.tracking.store import RunFolder, Status


class Phase(StrEnum):
    """Where a run stands."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    REMAINING = "remaining"


@dataclass(frozen=True)
class RunProgress:
    """A run of a sweep.

    Attributes:
        seconds: it took, or has taken so far; None before it begins.
        kind: of its method; empty for a job that ended without a run.
        reason: why it failed.
        step: what it is busy with.
    """

    name: str
    phase: Phase
    seconds: float | None = None
    kind: str = ""
    reason: str | None = None
    step: Step | None = None


@dataclass(frozen=True)
class SweepProgress:
    """A sweep at one moment.

    Attributes:
        runs: those that are planned, and those that earlier commands left in the folder.
        at_work: whether a process is carrying it out.
        is_search: whether further runs will be proposed.
        seconds: from the command's start until now, or until its last run ended; None where that is not on record.
    """

    folder: Path
    runs: Sequence[RunProgress]
    at_work: bool
    is_search: bool = False
    seconds: float | None = None

    def of(self, phase: Phase) -> list[RunProgress]:
        """The runs that stand there."""
        return [run for run in self.runs if run.phase is phase]

    def seconds_left(self) -> float | None:
        """An estimate: a run takes as long as those of its kind took, and as many go on at once as do now.

        Returns:
            None where no run has finished, or nobody knows how many will be proposed.
        """
        ahead = self.of(Phase.RUNNING) + self.of(Phase.REMAINING)
        expected = [self._expected(run) for run in ahead]
        if self.is_search or not self.of(Phase.DONE):
            return None
        return sum(expected) / max(1, len(self.of(Phase.RUNNING)))

    def _expected(self, run: RunProgress) -> float:
        """Seconds that a run will still take."""
        took = [(finished.kind, finished.seconds) for finished in self.of(Phase.DONE) if finished.seconds is not None]
        alike = [seconds for kind, seconds in took if kind == run.kind] or [seconds for _, seconds in took]
        return max(0.0, (fmean(alike) if alike else 0.0) - (run.seconds or 0.0))


@dataclass
class Surveyor:
    """Looks at a sweep folder again and again; a status file that has not changed is not read again."""

    folder: Path
    _read: dict[Path, tuple[int, Status]] = field(default_factory=dict, repr=False)

    def look(self) -> SweepProgress:
        """How far the sweep is now.

        Raises:
            StoreError: there is no such folder, or a record in it is damaged.
        """
        plan, at_work = read_plan(self.folder), somebody_is_at_work(self.folder)
        stored = {run.name: self._run(run, plan, at_work) for run in run_folders(self.folder)}
        kinds = {} if plan is None else plan.kinds
        waiting = [RunProgress(name, Phase.REMAINING, kind=kind) for name, kind in kinds.items() if name not in stored]
        seconds = None if plan is None else _since(plan.started, None if at_work else self._last_ending())
        return SweepProgress(
            self.folder, [*stored.values(), *waiting], at_work, plan is not None and plan.is_search, seconds
        )

    def _last_ending(self) -> str | None:
        return max((status.finished for _, status in self._read.values() if status.finished), default=None)

    def _run(self, run: RunFolder, plan: SweepPlan | None, at_work: bool) -> RunProgress:
        status = self._status(run)
        kind = "" if plan is None else plan.kinds.get(run.name, "")
        if status.state == "running":
            return RunProgress(run.name, Phase.RUNNING, _since(status.started), kind, None, read_step(run.path))
        if status.state == "pending" or (at_work and plan is not None and _awaits_another_try(run, status, plan)):
            return RunProgress(run.name, Phase.REMAINING, kind=kind)
        return RunProgress(run.name, Phase(status.state), status.seconds, kind, status.reason)

    def _status(self, run: RunFolder) -> Status:
        """The run's status; of one that runs, whether it still does is looked at each time."""
        path = run.path / "status.json"
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        stored = self._read.get(path)
        if stored is None or stored[0] != stamp or stored[1].state == "running":
            self._read[path] = (stamp, run.current())
        return self._read[path][1]


def _awaits_another_try(run: RunFolder, status: Status, plan: SweepPlan) -> bool:
    """Whether a run failed under an earlier command, and this one will come to it."""
    return status.state == "failed" and run.name in plan.kinds and (status.started or "") < plan.started


def _since(moment: str | None, until: str | None = None) -> float | None:
    """Seconds from a moment until another, or until now; UTC."""
    if moment is None:
        return None
    end = datetime.now(UTC) if until is None else datetime.fromisoformat(until)
    return max(0.0, (end - datetime.fromisoformat(moment)).total_seconds())
