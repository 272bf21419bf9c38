"""What sweeps survive: faults injected, runs survived, results lost, inputs fuzzed, and a soak.

python -m benchmarks.reliability --out benchmarks/reliability.md
python -m benchmarks.reliability --kills 3 --runs 20 --only kills soak
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.reliability.disks import damaged_files, full_disk, read_only
from benchmarks.reliability.inputs import input_rows
from benchmarks.reliability.kills import interrupts, kills, out_of_memory, two_at_once
from benchmarks.reliability.page import page
from benchmarks.reliability.processes import clock_backwards, tracker_death, worker_death
from benchmarks.reliability.rows import FaultRow
from benchmarks.reliability.soak import Soak, soak
from benchmarks.reliability.sweeps import SMALLEST, SmallSweep

from esmerge.core.progress import progress


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of a sweep with SIGKILL, at random moments")
    parser.add_argument("--runs", type=int, default=200, help="of the soak; 0 for none")
    parser.add_argument("--cases", type=int, default=1000, help="inputs of each kind; 0 for none")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and of the inputs")
    parser.add_argument("--only", nargs="*", help="names of faults, or soak, or inputs; all if left out")
    parser.add_argument("--out", type=Path, help="page to write; printed in any case")
    return parser.parse_args(argv)


def faults(home: Path, count: int, seed: int) -> dict[str, Callable[[], list[FaultRow]]]:
    """Name -> what brings a fault about; each compares with sweeps that nothing disturbs, which run first."""
    larger, smaller = SmallSweep(home / "whole"), SmallSweep(home / "small", SMALLEST)
    for sweep in (larger, smaller):
        if sweep.finish() != 0:
            raise RuntimeError(f"a sweep that nothing disturbs failed: {sweep.said()[-2000:]}")
    large, little = larger.results(), smaller.results()
    return {
        "kills": lambda: [kills(home / "kills", large, count, seed)],
        "interrupts": lambda: [interrupts(home / "interrupts", large, max(1, count // 4), seed)],
        "full": lambda: [full_disk(home / "full", little, SMALLEST)],
        "read_only": lambda: [read_only(home / "read_only", little, SMALLEST)],
        "damage": lambda: damaged_files(home / "damage", smaller, little),
        "tracker": lambda: [tracker_death(home / "tracker", little, SMALLEST)],
        "memory": lambda: [out_of_memory(home / "memory", little, SMALLEST)],
        "worker": lambda: [worker_death(home / "worker", little, SMALLEST)],
        "clock": lambda: [clock_backwards(home / "clock", little, SMALLEST)],
        "two": lambda: [two_at_once(home / "two", little, SMALLEST)],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Inject, print, write; returns 1 if anything was lost."""
    options = arguments(argv)
    home = Path(tempfile.mkdtemp(prefix="reliability-"))
    rows, soaked = _measure(options, home)
    inputs = input_rows(options.cases, options.seed) if options.cases > 0 and _selected(options, "inputs") else []
    text = page(rows, inputs, soaked, sys.argv[1:] if argv is None else list(argv))
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    lost = sum(row.lost + row.injected - row.survived for row in rows) + sum(row.crashes for row in inputs)
    if lost > 0 or (soaked is not None and soaked.lost + soaked.files > 0):
        print(f"something was lost; every sweep's folder, cache and output stay in {home}", file=sys.stderr)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


def _measure(options: argparse.Namespace, home: Path) -> tuple[list[FaultRow], Soak | None]:
    """The rows of the faults, and the soak."""
    injecting = options.only is None or set(options.only) - {"soak", "inputs"}
    injected = faults(home, options.kills, options.seed) if injecting else {}
    selected = {name: inject for name, inject in injected.items() if _selected(options, name)}
    rows: list[FaultRow] = []
    with progress("faults", len(selected) + 1) as bar:
        for name, inject in selected.items():
            bar.set_description(name)
            rows += inject()
            bar.update()
        soaking = options.runs > 0 and _selected(options, "soak")
        soaked = soak(home / "soak", options.runs, seed=options.seed) if soaking else None
        bar.update()
    return rows, soaked


def _selected(options: argparse.Namespace, name: str) -> bool:
    return options.only is None or name in options.only


if __name__ == "__main__":
    sys.exit(main())
