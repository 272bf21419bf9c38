"""Many small runs through joblib with kills at random moments, watching memory, handles and temporary files."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.reliability.processes import JOBLIB, joblib_workers
from benchmarks.reliability.sweeps import TINY, SmallSweep, ended, lost_rows

SETTLED, LONG = 20, 30  # runs of a sweep that a worker lives through until it is warm, and then until it is looked at
PERIOD = 0.25  # seconds between two looks


@dataclass
class Watched:
    """What was seen of one worker, look by look: (runs of the sweep that were over, resident MiB, open handles)."""

    looks: list[tuple[int, float, int]] = field(default_factory=list)

    def growth(self) -> tuple[float, int] | None:
        """MiB and handles that it has more at the end than once it was warm, medians over ten runs each; None if it
        did not live so long."""
        begin, end = self.looks[0][0] + SETTLED, self.looks[-1][0]
        if end - begin < LONG:
            return None
        early = [look for look in self.looks if begin <= look[0] < begin + 10]
        late = [look for look in self.looks if look[0] > end - 10]
        memory, handles = (_middle([look[i] for look in late]) - _middle([look[i] for look in early]) for i in (1, 2))
        return memory, int(handles)


@dataclass(frozen=True)
class Soak:
    """What a soak found.

    Attributes:
        runs: that were to be done.
        kills: workers or whole sweeps that were killed.
        commands: how often the command was given until it ended well.
        finished: runs done in the end.
        lost: rows of the results that an undisturbed sweep has and this one has not.
        workers: that lived through so many runs that their growth could be measured.
        memory: MiB by which one of them grew after it was warm, the most.
        handles: open handles by which one of them grew, the most.
        files: temporary files left in the cache, the sweep's folder, the system's temporary folder and shared memory.
        seconds: that it took.
    """

    runs: int
    kills: int
    commands: int
    finished: int
    lost: int
    workers: int
    memory: float
    handles: int
    files: int
    seconds: float


def soak(home: Path, runs: int = 200, kills: int = 6, seed: int = 0) -> Soak:
    """Merges with ``runs`` different scales, each a job of its own."""
    scales = ",".join(f"{0.1 + 0.005 * number:.3f}" for number in range(runs))
    settings = (
        *(*TINY, "suite.benchmarks=[molecule_class]", "references=[]", "granularity=layer", "method=task_arithmetic"),
        f"method.scale={scales}",
    )
    clock, before, watched = time.monotonic(), _temporary(), defaultdict[int, Watched](Watched)
    calm, sweep = (SmallSweep(home / name, (*settings, *JOBLIB)) for name in ("calm", "disturbed"))
    _disturb(calm, runs, 0, random.Random(seed), watched)
    killed, commands = _disturb(sweep, runs, kills, random.Random(seed), watched)
    grown = [growth for worker in watched.values() if (growth := worker.growth()) is not None]
    leftovers = sweep.leftovers() + sorted(_temporary() - before)
    lost, finished = lost_rows(calm.results(), sweep.results()), len(sweep.finished())
    memory = max((memory for memory, _ in grown), default=0.0)
    handles = max((handles for _, handles in grown), default=0)
    seconds = round(time.monotonic() - clock, 1)
    return Soak(runs, killed, commands, finished, lost, len(grown), round(memory, 1), handles, len(leftovers), seconds)


def _disturb(
    sweep: SmallSweep, runs: int, kills: int, rng: random.Random, watched: dict[int, Watched]
) -> tuple[int, int]:
    """Give the command until it ends well, with ``kills`` kills; returns how many there were, and how many commands."""
    killed, commands, code = 0, 0, 1
    while code != 0 and commands < kills + 3:
        commands += 1
        finished = len(list(sweep.folder.glob("*/metrics.csv")))
        aim = (
            finished + rng.randint(1, max(1, 2 * (runs - finished) // (kills - killed + 1)))
            if killed < kills
            else runs + 1
        )
        process, victim = sweep.start(), rng.random()
        while process.exitcode is None:
            workers = joblib_workers(int(process.pid or 0))
            finished = len(list(sweep.folder.glob("*/metrics.csv")))
            _look(workers, finished, watched)
            if workers and finished >= aim and killed < kills:
                _kill(workers if victim < 0.7 else [*workers, int(process.pid or 0)], rng)
                killed, aim = killed + 1, runs + 1
            time.sleep(PERIOD)
        code = ended(process)
    return killed, commands


def _kill(processes: Sequence[int], rng: random.Random) -> None:
    """One worker, or the whole sweep with its workers, as a batch system does."""
    victims = [rng.choice(processes)] if len(processes) <= 2 else processes
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


def _look(workers: Sequence[int], finished: int, watched: dict[int, Watched]) -> None:
    for worker in workers:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{worker}/statm").read_text(encoding="utf-8").split()[1])
            handles = len(os.listdir(f"/proc/{worker}/fd"))
            memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            watched[worker].looks.append((finished, memory, handles))


def _temporary() -> set[str]:
    """What joblib leaves in the system's temporary folders."""
    folders = [Path(tempfile.gettempdir()), Path("/dev/shm")]  # nosec B108
    return {str(path) for folder in folders if folder.is_dir() for path in folder.glob("joblib_memmapping*")}


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
