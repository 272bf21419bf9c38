"""Processes that end at random moments: SIGKILL, SIGINT, running out of memory, and two sweeps at a time."""

from __future__ import annotations

import functools
import itertools
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from benchmarks.reliability.rows import FaultRow
from benchmarks.reliability.sweeps import TINY, SmallSweep, ended, lost_rows, stop_after

from esmerge.model import scoring, training

STARTING = 0.4  # processor seconds in which a sweep does nothing that could be lost
OPERATIONS = 120  # operations on files before one of which a sweep is killed
MOMENTS = 1.2  # processor seconds over which moments are drawn, counted from there


@dataclass
class Tally:
    """What is counted over the faults of one kind."""

    expected: bytes
    injected: int = 0
    survived: int = 0
    lost: int = 0

    def check(self, sweep: SmallSweep, faults: int, code: int | None) -> None:
        """Compare what a sweep left after ``faults`` faults and the command that should mend them."""
        lost = lost_rows(self.expected, sweep.results()) + len(sweep.leftovers())
        self.injected += faults
        self.survived += faults if code == 0 and sweep.results() == self.expected else 0
        self.lost += lost

    def row(self, fault: str, cause: str, message: str) -> FaultRow:
        """The row of the page."""
        return FaultRow(fault, cause, self.injected, self.survived, self.lost, message)


def kills(
    home: Path,
    expected: bytes,
    count: int,
    seed: int = 0,
    settings: tuple[str, ...] = TINY,
    moments: float = MOMENTS,
) -> FaultRow:
    """``kill -9`` at random moments, one after the other in one sweep until it ends, then in another.

    Every other moment is a processor time, the rest are just before a file or folder is made, forced out or renamed.

    Args:
        moments: processor seconds over which they are drawn.
    """
    tally = _stopped(home, expected, count, random.Random(seed), signal.SIGKILL, settings, moments)
    message = "at the start: the command that goes on; in the table: `stopped half-way`"
    return tally.row("kill -9", "SIGKILL after a random processor time, or before a random file operation", message)


def interrupts(home: Path, expected: bytes, count: int, seed: int = 0) -> FaultRow:
    """``Ctrl-C`` at random moments."""
    tally = _stopped(home, expected, count, random.Random(seed), signal.SIGINT)
    return tally.row("Ctrl-C", "SIGINT after a random processor time", "`stopped`, and the command that goes on")


def out_of_memory(home: Path, expected: bytes, settings: tuple[str, ...], batch: int = 3) -> FaultRow:
    """Scoring that runs out of memory at its n-th batch, however small the batch."""
    tally, sweep = Tally(expected), SmallSweep(home, settings)
    code = sweep.finish(partial(_exhaust, batch))
    reported = code == 1 and "out of memory" in sweep.said()
    tally.check(sweep, int(reported), sweep.finish())
    message = (
        "the run is failed with torch's message; the same command makes it again, from the batches that were scored"
    )
    return tally.row("out of memory in scoring", f"every forward pass from the {batch + 1}th on raises", message)


def two_at_once(home: Path, expected: bytes, settings: tuple[str, ...]) -> FaultRow:
    """Two processes with the same command, started together."""
    tally, sweep = Tally(expected), SmallSweep(home, settings)
    processes = [sweep.start(), sweep.start()]
    tally.check(sweep, 1, max(ended(process) or 0 for process in processes))
    return tally.row("two sweeps in one folder", "the same command twice at a time", "nothing: they share the work")


def _stopped(
    home: Path,
    expected: bytes,
    count: int,
    rng: random.Random,
    number: signal.Signals,
    settings: tuple[str, ...] = TINY,
    moments: float = MOMENTS,
) -> Tally:
    """Stop sweeps at random moments until so many were stopped; each that gets to its end is compared."""
    tally, attempt = Tally(expected), 0
    while tally.injected < count:
        sweep, faults = SmallSweep(home / str(attempt), settings), 0
        while tally.injected + faults < count:
            before = sweep.finished()
            if number == signal.SIGKILL and faults % 2:
                stopped = sweep.finish(partial(_die_at, rng.randrange(OPERATIONS))) == -number
            else:
                moment = STARTING + rng.random() * moments
                stopped = stop_after(sweep.start(_checkpoint_always), moment, number)
            if not stopped:
                break
            faults += 1
            after = sweep.finished()
            tally.lost += sum(after.get(name) != stamp for name, stamp in before.items())
        tally.check(sweep, faults, sweep.finish(_checkpoint_always))
        attempt += 1
    return tally


def _checkpoint_always() -> None:
    """Checkpoint training after every step: small trainings would be over before the first."""
    training.CHECKPOINT_SECONDS = -1.0


def _die_at(number: int) -> None:
    """Let this process be killed just before its n-th operation on a file or folder."""
    _checkpoint_always()
    count = itertools.count()

    def deadly(operation: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(operation)
        def counted(*arguments: object, **named: object) -> object:
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **named)

        return counted

    os.mkdir, os.fsync, os.rename, os.replace = map(deadly, (os.mkdir, os.fsync, os.rename, os.replace))


def _exhaust(batch: int) -> None:
    """Let scoring run out of memory from a batch on."""
    passes: list[None] = []
    original: Callable[..., object] = scoring._read

    def exhausted(*arguments: object) -> object:
        passes.append(None)
        if len(passes) > batch:
            raise torch.OutOfMemoryError("out of memory: tried to allocate 20.00 GiB")
        return original(*arguments)

    scoring._read = exhausted  # type: ignore[assignment]
