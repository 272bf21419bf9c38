"""Seconds and peak memory of one job, each measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from benchmarks.speed.contenders import Job, prepare
from benchmarks.speed.flops import counted

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.speed.measure"])  # imports happen once, outside of all measurements
ENOUGH = 10.0  # seconds after which work is not repeated


@dataclass(frozen=True)
class Measurement:
    """What a job took.

    Attributes:
        seconds: the quickest of the repetitions; None if the job failed or ran into the limit.
        memory: bytes at the peak, beyond the peak of a process that only prepares the same inputs.
        flop: floating-point operations of the work's matrix products; None where counting would have taken too long.
        fault: why there are no seconds: ``> LIMIT s``, or the error.
    """

    seconds: float | None = None
    memory: int | None = None
    flop: float | None = None
    fault: str = ""

    def describe(self) -> str:
        """In one line."""
        if self.seconds is None or self.memory is None:
            return self.fault
        return f"{self.seconds:.3g} s, {self.memory / 1e6:.0f} MB"


@dataclass
class Meter:
    """Runs jobs one after the other.

    Attributes:
        repeats: how often the work is timed, unless it is slow.
        limit: seconds after which a process is ended.
        threads: that torch may use.
    """

    repeats: int
    limit: float
    threads: int
    _prepared: dict[tuple[Any, ...], Measurement] = field(default_factory=dict)

    def measure(self, job: Job) -> Measurement:
        """Run the job, and once for all jobs with the same inputs, a process that prepares them and does no work."""
        key = job.inputs()
        if key not in self._prepared:
            self._prepared[key] = self._run(job, 0)
        prepared = self._prepared[key]
        measurement = self._run(job, self.repeats) if prepared.memory is not None else prepared
        if measurement.memory is None or prepared.memory is None:
            return measurement
        return replace(measurement, memory=max(0, measurement.memory - prepared.memory))

    def _run(self, job: Job, repeats: int) -> Measurement:
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_child, args=(job, repeats, self.threads, sender), daemon=True)
        process.start()
        sender.close()  # so that the pipe ends when the process does
        try:
            if not receiver.poll(self.limit):
                return Measurement(fault=f"> {self.limit:g} s")
            return receiver.recv()
        except EOFError:
            process.join()
            return Measurement(fault=f"the process ended with exit code {process.exitcode}")
        finally:
            process.kill()
            process.join()


def _child(job: Job, repeats: int, threads: int, sender: Connection) -> None:
    try:
        torch.set_num_threads(threads)
        sender.send(_measured(job, repeats))
    except Exception as error:
        traceback.print_exc()
        sender.send(Measurement(fault=f"{type(error).__name__}: {error}"))


def _measured(job: Job, repeats: int) -> Measurement:
    """Time and peak of this process; the same work on tiny adapters comes first, so that no first call is timed."""
    with torch.no_grad():
        prepare(replace(job, adapters=replace(job.adapters, shapes="tiny", layers=1)))()
        work = prepare(job)
        seconds: list[float] = []
        while len(seconds) < repeats and sum(seconds) < ENOUGH:
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # before operations are counted
        flop = counted(work) if seconds and min(seconds) < ENOUGH else None
    return Measurement(min(seconds, default=None), peak if sys.platform == "darwin" else peak * 1024, flop)
