"""The sweep on the CPU that the device's sweep is compared with: it runs beside the other parts, at low priority."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
FULL = ["granularity=layer,element,joint", "specialists=textbook"]
SMALL = [
    "granularity=layer,joint",
    "specialists=textbook_tiny",
    "suite.benchmarks=[drug_protein,molecule_class]",
    "references=[majority,base,expert,average@delta]",
    "benchmark.limit=12",
    "probe.samples=4",
    "granularity.projections=16",
    "compute.resamples=20",
]
CPU, DEVICE, EXIT_CODE = "cpu", "device", "exit_code"


def command(folder: Path, device: str, small: bool) -> list[str]:
    """A sweep into ``folder/results`` with the cache ``folder/cache``."""
    places = [f"cache={folder / 'cache'}", f"hydra.sweep.dir={folder / 'results'}"]
    compute = [f"compute.device={device}", f"compute.threads={1 if small else 4}", "tracking=disabled"]
    return [sys.executable, "-m", "src.sweep", "-m", *(SMALL if small else FULL), *places, *compute]


def begin(work: Path, small: bool) -> subprocess.Popen[bytes]:
    """Start the sweep on the CPU; ``exit_code`` is written beside its results when it ends."""
    folder = work / CPU
    folder.mkdir()
    script = 'nice -n 10 "$@"; echo $? > "$0.partial"; mv "$0.partial" "$0"'
    with (work / "sweep_on_cpu.log").open("wb") as log:
        return subprocess.Popen(
            ["sh", "-c", script, str(folder / EXIT_CODE), *command(folder, CPU, small)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """End the sweep if it still runs."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
