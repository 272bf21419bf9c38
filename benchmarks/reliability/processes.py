"""Processes beside a sweep that die, and a clock that goes backwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.reliability.kills import Tally
from benchmarks.reliability.rows import FaultRow
from benchmarks.reliability.sweeps import SmallSweep, ended

from esmerge.tracking import store, wandb_log
from esmerge.tracking.store import RunFolder

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def worker_death(home: Path, expected: bytes, settings: tuple[str, ...]) -> FaultRow:
    """A joblib worker that is killed while it works on a run."""
    tally, sweep = Tally(expected), SmallSweep(home, (*settings, *JOBLIB))
    process = sweep.start()
    kill_worker(process, lambda: any(_running(path) for path in sweep.folder.glob("*/status.json")))
    code = ended(process)
    reported = code != 0 and "this goes on from what is finished" in sweep.said()
    tally.check(sweep, 1, sweep.finish() if reported else 1)
    return tally.row("a joblib worker dies", "SIGKILL to a worker that has a run", "the command that goes on")


def tracker_death(home: Path, expected: bytes, settings: tuple[str, ...]) -> FaultRow:
    """W&B's own process that dies while the first run is logged."""
    tally, sweep = Tally(expected), SmallSweep(home, (*settings, "tracking=offline"))
    code = sweep.finish(_kill_tracker_once)
    statuses = [RunFolder(path.parent).status() for path in sweep.folder.glob("*/status.json")]
    noted = [status for status in statuses if status.tracking_error]
    tally.check(sweep, 1, code if noted else 1)
    tally.lost += len(noted) - 1 if noted else 0  # runs after the first that were not logged, either
    message = "`run … was not tracked by W&B (…); its results are stored regardless`; later runs are logged again"
    return tally.row("W&B's process dies", "SIGKILL to wandb-core between init and log", message)


def clock_backwards(home: Path, expected: bytes, settings: tuple[str, ...]) -> FaultRow:
    """A clock that goes back by an hour each time it is read."""
    tally, sweep = Tally(expected), SmallSweep(home, settings)
    tally.check(sweep, 1, sweep.finish(_turn_back))
    return tally.row("the clock goes backwards", "every reading is an hour earlier", "nothing: durations do not use it")


def kill_worker(process: BaseProcess, ready: Callable[[], bool], chosen: int = 0) -> bool:
    """Kill one of a sweep's joblib workers as soon as ``ready``; False if the sweep ended before."""
    while process.exitcode is None:
        workers = joblib_workers(int(process.pid or 0))
        if workers and ready():
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[chosen % len(workers)], signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


def joblib_workers(parent: int) -> list[int]:
    """Process ids of the joblib workers below a process."""
    workers = []
    for child in _children(parent):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"loky.backend.popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes():
                workers.append(child)
    return workers


def _children(parent: int) -> list[int]:
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in text.split()]


def _running(path: Path) -> bool:
    return '"state": "running"' in path.read_text(encoding="utf-8")


def _kill_tracker_once() -> None:
    """In this process, let W&B's process die when the first run is about to be logged."""
    table, killed = wandb_log.table, list[int]()

    def deadly(rows: object, *columns: object) -> object:
        if not killed:
            for child in _descendants(os.getpid()):
                if b"wandb-core" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(child, signal.SIGKILL)
                    killed.append(child)
            time.sleep(0.5)
        return table(rows, *columns)  # type: ignore[arg-type]

    wandb_log.table = deadly


def _descendants(parent: int) -> list[int]:
    children = _children(parent)
    return children + [below for child in children for below in _descendants(child)]


def _turn_back() -> None:
    """In this process, let every reading of the time of day be before the last."""
    hours, start = itertools.count(), time.time()
    time.time = lambda: start - 3600 * next(hours)  # type: ignore[assignment]
    now = datetime.now(UTC)
    store.utc_now = lambda: (now - timedelta(hours=next(hours))).isoformat(timespec="seconds")
