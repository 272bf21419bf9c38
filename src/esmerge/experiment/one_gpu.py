"""One GPU per job, where jobs of a sweep run beside one another and see the same GPUs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TypeVar

import torch
from filelock import BaseFileLock, FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from esmerge.experiment.config import Sweep

ANY = "cuda"  # some GPU, whichever
POLL = 1.0  # seconds between two looks at GPUs that are all taken

Result = TypeVar("Result")

_LAST: list[int] = []  # the GPU of this process's last job: what it holds of models lies there


def on_one_gpu(run_job: Callable[[Sweep, Path], Result]) -> Callable[[Sweep, Path], Result]:
    """A job that works on the GPU that ``one_gpu`` gives it."""

    @wraps(run_job)
    def job(sweep: Sweep, folder: Path) -> Result:
        with one_gpu(sweep.compute.device, Path(sweep.cache)) as device:
            return run_job(replace(sweep, compute=replace(sweep.compute, device=device)), folder)

    return job


@contextmanager
def one_gpu(device: str, cache: Path) -> Iterator[str]:
    """The device of a job while it lasts: for ``cuda``, in a job beside others, a GPU that no other job has.

    Args:
        device: ``compute.device``; one with an index, such as ``cuda:1``, is taken as it is.
        cache: folder whose users share the GPUs of this machine.
    """
    if device != ANY or not runs_beside_others():
        yield device
        return
    with claimed_gpu(visible_gpus(), cache / "gpus") as index, torch.cuda.device(index):
        yield f"{ANY}:{index}"


def runs_beside_others() -> bool:
    """Whether this is a job of a multirun whose launcher runs several at once."""
    if not HydraConfig.initialized():
        return False
    config = HydraConfig.get()
    return config.mode == RunMode.MULTIRUN and config.runtime.choices["hydra/launcher"] != "basic"


def visible_gpus() -> dict[int, str]:
    """Index of each GPU that this process sees -> what names it on this machine, whatever index others give it."""
    return {index: str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())}


@contextmanager
def claimed_gpu(gpus: Mapping[int, str], folder: Path, poll: float = POLL) -> Iterator[int]:
    """The index of a GPU that nobody else has claimed; waits while all are taken.

    Args:
        gpus: index -> name, unique on this machine.
        folder: of the locks.
        poll: seconds between two tries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    locks = {index: FileLock(folder / f"{host}-{name}.lock", timeout=0) for index, name in gpus.items()}
    index = _first_free(locks)
    while index is None:
        time.sleep(poll)
        index = _first_free(locks)
    _LAST[:] = [index]
    try:
        yield index
    finally:
        locks[index].release()


def _first_free(locks: Mapping[int, BaseFileLock]) -> int | None:
    for index in sorted(locks, key=lambda index: index not in _LAST):
        try:
            locks[index].acquire()
        except Timeout:
            continue
        return index
    return None
