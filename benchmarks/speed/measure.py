"""Seconds and peak memory of one job, each measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
import traceback
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.speed.contenders import Job, prepare
from benchmarks.speed.inputs import SHAPES

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["benchmarks.speed.measure"])  # imports are done once, and outside of all measurements
ENOUGH = 10.0  # seconds after which work is not repeated


@dataclass(frozen=True)
class Measurement:
    """What a job took.

    Attributes:
        seconds: the quickest of the repetitions; None if the job failed or ran into the limit.
        memory: bytes at the peak, beyond the peak of a process that only prepares the same inputs.
        fault: why there are no seconds.
    """

    seconds: float | None = None
    memory: int | None = None
    fault: str = ""


def measure(job: Job, repeats: int, limit: float, threads: int) -> Measurement:
    """Run the job in a process of its own, and once more without the work to know what its inputs take."""
    prepared = _idle(job.inputs(), job, limit, threads)
    found = _in_process(job, repeats, limit, threads)
    if isinstance(prepared, str) or isinstance(found, str):
        return Measurement(fault=prepared if isinstance(prepared, str) else str(found))
    seconds, peak = found
    return Measurement(seconds, max(0, peak - prepared[1]))


class _Anyhow:
    """A job that is no part of a cache's key."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return True


def _idle(inputs: tuple[Any, ...], job: Job, limit: float, threads: int) -> tuple[float, int] | str:
    return _idle_once(inputs, _Anyhow(job), limit, threads)


@cache
def _idle_once(inputs: tuple[Any, ...], job: _Anyhow, limit: float, threads: int) -> tuple[float, int] | str:
    return _in_process(job.job, 0, limit, threads)
