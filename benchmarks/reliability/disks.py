"""Disks that are full or read-only, and files that were cut short or altered on them.

A small file system of its own is mounted where the system allows it (as root on Linux); elsewhere the n-th write, or
every write, raises the error that the system would.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reliability.kills import Tally
from benchmarks.reliability.rows import FaultRow
from benchmarks.reliability.sweeps import SmallSweep, nothing

from esmerge.storage import files


@dataclass
class SmallDisk:
    """A disk whose size and mode a test decides.

    Attributes:
        path: where it is.
        mounted: whether it is a file system of its own; if not, writes are made to fail.
    """

    path: Path
    mounted: bool
    _fault: Callable[[], object] = nothing

    @property
    def how(self) -> str:
        """How faults come about."""
        return "a tmpfs of its own" if self.mounted else "writes that raise the system's error"

    def fill(self, kilobytes: int) -> None:
        """Make the disk so large that it will be full."""
        if self.mounted:
            self._remount(f"size={kilobytes}k")
        self._fault = nothing if self.mounted else lambda: _failing_writes(kilobytes // 40, errno.ENOSPC)

    def lock(self) -> None:
        """Make it read-only."""
        if self.mounted:
            self._remount("ro")
        self._fault = nothing if self.mounted else lambda: _failing_writes(0, errno.EROFS)

    def mend(self) -> None:
        """Make it large and writable."""
        if self.mounted:
            self._remount("rw,size=400m")
        self._fault = nothing

    def disturb(self) -> None:
        """Set up the fault in a process that uses the disk."""
        self._fault()

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True, capture_output=True)


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """A disk for the time of a block."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:  # no such command
        mounted = False
    try:
        yield SmallDisk(path, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


def full_disk(home: Path, expected: bytes, settings: tuple[str, ...], sizes: tuple[int, ...] = (200, 700)) -> FaultRow:
    """A disk of so many kB, which is enlarged when the sweep has ended."""
    tally = Tally(expected)
    for size in sizes:
        with small_disk(home / str(size)) as disk:
            sweep = SmallSweep(disk.path, settings)
            disk.fill(size)
            code = sweep.finish(disk.disturb)
            output, disk_how = sweep.said(), disk.how
            disk.mend()
            reported = code == 1 and "is full" in output and "Traceback" not in output
            tally.check(sweep, 1, sweep.finish() if reported else code)
    return tally.row("full disk", disk_how, "`the disk of … is full …: free some space and run the same command again`")


def read_only(home: Path, expected: bytes, settings: tuple[str, ...]) -> FaultRow:
    """A disk that becomes read-only when a part of the sweep is done."""
    tally = Tally(expected)
    with small_disk(home) as disk:
        part = SmallSweep(disk.path / "work", (*settings, "references=[majority]", "method=majority"))
        sweep = SmallSweep(disk.path / "work", settings)
        part.finish()
        disk.lock()
        code = SmallSweep(disk.path / "work", settings, said_at=home.parent / "said.txt").finish(disk.disturb)
        output = (home.parent / "said.txt").read_text(encoding="utf-8")
        disk.mend()
        reported = code == 1 and "Read-only file system" in output and "Traceback" not in output
        tally.check(sweep, 1, sweep.finish() if reported else code)
    return tally.row(
        "read-only folder", disk.how, "`… cannot be written (… Read-only file system): give a folder that can be`"
    )


def damaged_files(home: Path, original: SmallSweep, expected: bytes) -> list[FaultRow]:
    """Every file of a finished sweep's cache and runs, first cut short, then with one bit flipped."""
    rows = []
    for name, spoil in (("truncated", _cut), ("bit-flipped", _flip)):
        sweep, tally = SmallSweep(home / name, original.settings), Tally(expected)
        shutil.copytree(original.home, sweep.home)
        paths = _results(sweep)
        for path in paths:
            spoil(path)
        code = sweep.finish()
        reported = "is damaged" in sweep.said() and "Traceback" not in sweep.said()
        tally.check(sweep, len(paths), code if reported else 1)
        cause = "every safetensors, JSON and CSV file of the cache and the runs at once"
        rows.append(tally.row(f"{name} files", cause, "`… is damaged: … was altered or cut short; it is made again`"))
    return rows


def _results(sweep: SmallSweep) -> list[Path]:
    """The files of the cache and of the runs that a later command reads."""
    paths = [path for folder in (sweep.cache, sweep.folder) for path in folder.rglob("*")]
    stored = [path for path in paths if path.suffix in (".safetensors", ".json", ".csv") and path.stat().st_size]
    return sorted(path for path in stored if path.parent != sweep.folder)  # those of the report are written anew


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def _failing_writes(good: int, number: int) -> None:
    """Let every write from one on fail, in this process."""
    count, sync = [0], os.fsync

    def fsync(handle: int) -> None:
        count[0] += 1
        if count[0] > good:
            raise OSError(number, os.strerror(number))
        sync(handle)

    files.os.fsync = fsync
