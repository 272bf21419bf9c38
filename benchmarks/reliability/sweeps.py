"""Small sweeps in processes of their own, forked from a process that has imported everything, so that they start at
once; and what they leave behind."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from joblib.externals.loky import get_reusable_executor

from esmerge.cli import sweep as front_door
from esmerge.tracking.store import RunFolder

TINY = (
    *("specialists=textbook_tiny", "suite.benchmarks=[drug_protein,molecule_class]", "benchmark.limit=12"),
    *("references=[majority,base,expert,finetuned,average@delta]", "granularity=layer,joint"),
    *("probe.samples=4", "granularity.projections=16", "compute.resamples=20", "compute.threads=1"),
    *("compute.batch_size=3", "tracking=disabled"),
)
SMALLEST = (*TINY, "suite.benchmarks=[molecule_class]", "references=[majority,base]", "granularity=layer")
# A server that has imported everything and computed nothing: torch refuses gradients in a fork of a process that has.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload([__name__])
TICKS = os.sysconf("SC_CLK_TCK")
TIME_LIMIT = 280.0  # seconds that a small sweep may take on a busy machine


def nothing() -> None:
    """Disturb nothing."""


@dataclass(frozen=True)
class SmallSweep:
    """A sweep that is over in seconds.

    Attributes:
        home: holds its folder, its cache and what it prints.
        settings: words of its command line, beside the folders.
        said_at: file that gets what it prints; None for one at home.
    """

    home: Path
    settings: tuple[str, ...] = TINY
    said_at: Path | None = None

    @property
    def folder(self) -> Path:
        return self.home / "sweep"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def start(self, disturb: Callable[[], object] = nothing) -> BaseProcess:
        """Start the command, with a fault set up by ``disturb``, a function of a module or one that can be pickled, in
        its process.

        Called again, it is the same command in the same folder.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        process = FORKED.Process(target=self._run, args=(disturb,))
        process.start()
        return process

    def finish(self, disturb: Callable[[], object] = nothing) -> int | None:
        """Run the command to its end; returns the exit code, below 0 for a signal."""
        return ended(self.start(disturb))

    def said(self) -> str:
        """What the last command printed."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def results(self) -> bytes:
        """The bytes of ``results.csv``; empty where there is none."""
        path = self.folder / "results.csv"
        return path.read_bytes() if path.exists() else b""

    def finished(self) -> dict[str, int]:
        """Run that is done -> when its metrics were written, in ns."""
        paths = [path.parent for path in self.folder.glob("*/status.json")]
        finished_paths = [path for path in paths if RunFolder(path).outcome().state == "done"]
        return {path.name: (path / "metrics.csv").stat().st_mtime_ns for path in finished_paths}

    def leftovers(self) -> list[str]:
        """Temporary files in the sweep's folder and cache."""
        paths = [path for folder in (self.folder, self.cache) for path in folder.rglob("*")]
        return sorted(str(path) for path in paths if path.suffix in (".partial", ".old"))

    @property
    def _said(self) -> Path:
        return self.said_at or self.home / "said.txt"

    def _run(self, disturb: Callable[[], object]) -> None:
        torch.set_num_threads(1)  # a forked process has no other
        words = ["-m", *self.settings, f"hydra.sweep.dir={self.folder}", f"cache={self.cache}"]
        sys.argv = ["sweep", *words]
        handle = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        sys.stdout, sys.stderr = (io.TextIOWrapper(open(stream, "wb", 0), write_through=True) for stream in (1, 2))  # noqa: SIM115
        warnings.showwarning = _show_warning  # whatever the process before it did with warnings
        warnings.simplefilter("default")
        disturb()
        try:
            front_door.main()
        finally:
            if "hydra/launcher=joblib" in self.settings:  # a forked process leaves out what ends the workers
                get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def _show_warning(message: Warning | str, category: type[Warning], *location: object) -> None:
    print(f"{category.__name__}: {message}", file=sys.stderr)


def ended(process: BaseProcess) -> int | None:
    """Wait for a process; returns its exit code.

    Raises:
        TimeoutError: it hangs; it is then killed.
    """
    process.join(TIME_LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"a small sweep did not end within {TIME_LIMIT:g} s")
    return process.exitcode


def stop_after(process: BaseProcess, seconds: float, number: signal.Signals) -> bool:
    """Send a signal once a process has used so much processor time; returns whether it was still at work then."""
    while process.exitcode is None and _used(process.pid) < seconds:
        time.sleep(0.005)
    if process.exitcode is not None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(process.pid or 0), number)
    ended(process)
    return process.exitcode != 0


def lost_rows(expected: bytes, results: bytes) -> int:
    """Rows of the first table that the second lacks or has otherwise."""
    return len(set(expected.splitlines()) - set(results.splitlines()))


def _used(pid: int | None) -> float:
    """Processor seconds of a process so far; infinite for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return float("inf")
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS
