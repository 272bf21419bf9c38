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

WARM = 0.4  # share of a worker's life in which it loads what it keeps
PERIOD = 0.25  # seconds between two looks


@dataclass
class Watched:
    """What was seen of one worker, look by look: (seconds, resident MiB, open handles)."""

    looks: list[tuple[float, float, int]] = field(default_factory=list)

    def growth(self) -> tuple[float, int]:
        """MiB and handles that the last fifth of its life has more than the fifth after it was warm; medians."""
        fifth = len(self.looks) // 5
        early = self.looks[int(WARM * len(self.looks)) :][:fifth]
        late = self.looks[-fifth:]
        return _middle([look[1] for look in late]) - _middle([look[1] for look in early]), int(
            _middle([look[2] for look in late]) - _middle([look[2] for look in early])
        )


@dataclass(frozen=True)
class Soak:
    """What a soak found.

    Attributes:
        runs: that were to be done.
        kills: workers or whole sweeps that were killed.
        commands: how often the command was given until it ended well.
        finished: runs done in the end.
        lost: rows of the results that an undisturbed sweep has and this one has not.
        memory: MiB by which a worker grew after it was warm, the largest.
        handles: open handles by which a worker grew, the largest.
        files: temporary files left in the cache, the sweep's folder, the system's temporary folder and shared memory.
        seconds: that it took.
    """

    runs: int
    kills: int
    commands: int
    finished: int
    lost: int
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
    calm = SmallSweep(home / "calm", settings)
    calm.finish()
    clock, before = time.monotonic(), _temporary()
    sweep, watched = SmallSweep(home / "disturbed", (*settings, *JOBLIB)), defaultdict[int, Watched](Watched)
    killed, commands = _disturb(sweep, runs, kills, random.Random(seed), watched)
    grown = [each.growth() for each in watched.values() if len(each.looks) >= 20]
    left = sweep.leftovers() + sorted(_temporary() - before)
    return Soak(
        runs, killed, commands, len(sweep.finished()), lost_rows(calm.results(), sweep.results()),
        round(max((memory for memory, _ in grown), default=0.0), 1), max((handles for _, handles in grown), default=0),
        len(left), round(time.monotonic() - clock, 1),
    )  # fmt: skip


def _disturb(
    sweep: SmallSweep, runs: int, kills: int, rng: random.Random, watched: dict[int, Watched]
) -> tuple[int, int]:
    """Give the command again and again until it ends well; returns how many kills there were, and how many commands."""
    killed, commands, code = 0, 0, 1
    while code != 0 and commands < kills + 3:
        commands += 1
        done = len(list(sweep.folder.glob("*/metrics.csv")))
        aim = done + rng.randint(1, max(1, 2 * (runs - done) // (kills - killed + 1))) if killed < kills else runs + 1
        process, victim = sweep.start(), rng.random()
        while process.exitcode is None:
            workers = joblib_workers(int(process.pid or 0))
            _look(workers, watched)
            if workers and len(list(sweep.folder.glob("*/metrics.csv"))) >= aim and killed < kills:
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


def _look(workers: Sequence[int], watched: dict[int, Watched]) -> None:
    for worker in workers:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{worker}/statm").read_text(encoding="utf-8").split()[1])
            handles = len(os.listdir(f"/proc/{worker}/fd"))
            memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            watched[worker].looks.append((time.monotonic(), memory, handles))


def _temporary() -> set[str]:
    """What joblib leaves in the system's temporary folders."""
    folders = [Path(tempfile.gettempdir()), Path("/dev/shm")]
    return {str(path) for folder in folders if folder.is_dir() for path in folder.glob("joblib_memmapping*")}


def _middle(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
