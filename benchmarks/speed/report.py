"""What a report costs: seconds, processor time and peak memory of ``python -m src.report`` on an invented sweep.

    python -m benchmarks.speed.report --runs 200 --benchmarks 23
    python -m benchmarks.speed.report --runs 200 --benchmarks 23 --folder /tmp/invented --profile

The sweep has the names of suite=all, so that published numbers stand beside its own, and answers drawn at random. It is
written to --folder and stays there, or to a temporary folder. The report is built in a process of its own; processor
time is what it would take on an idle core. --profile names the functions that take longest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.invented import BENCHMARKS, invented_rows, write_sweep
from benchmarks.speed.rows import append

AIM_SECONDS, AIM_MB = 20.0, 1000.0
LINES = 40  # of a profile
METER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], "wb"), stderr=subprocess.STDOUT)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""  # a small process of its own: a child's peak begins with that of the process that started it
PROGRAM = [sys.executable, "-m", "src.report"]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--benchmarks", type=int, default=len(BENCHMARKS))
    parser.add_argument("--questions", type=int, default=1000, help="of each benchmark")
    parser.add_argument("--seeds", type=int, default=5, help="of each row; --runs is a multiple of it")
    parser.add_argument("--folder", type=Path, help="where the sweep is, or is to be written; it stays")
    parser.add_argument("--profile", action="store_true", help="print what takes longest; slower")
    parser.add_argument("--out", type=Path, help="CSV file to append a row to")
    options = parser.parse_args(argv)
    if options.runs % options.seeds or options.runs < options.seeds:
        parser.error(f"--runs {options.runs}: expected a multiple of --seeds, {options.seeds}")
    if not 1 <= options.benchmarks <= len(BENCHMARKS):
        parser.error(f"--benchmarks {options.benchmarks}: expected from 1 to {len(BENCHMARKS)}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Invent, measure, print, append."""
    options = arguments(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "sweep"
        if not folder.exists():
            rows = invented_rows(options.runs // options.seeds)
            write_sweep(folder, rows, options.seeds, options.benchmarks, options.questions)
        if options.profile:
            return _profile(folder)
        row = {"runs": options.runs, "benchmarks": options.benchmarks, "questions": options.questions,
               "seeds": options.seeds, **measured(folder), "cores": os.cpu_count(),
               "machine": platform.machine()}  # fmt: skip
    print(report(row))
    if options.out:
        append(options.out, row)
    return 0


def measured(folder: Path) -> dict[str, float]:
    """Wall seconds, processor seconds and peak memory (MB) of one report, and the size of its page (MB).

    Raises:
        RuntimeError: the report failed; with what it said.
    """
    start = time.perf_counter()
    with tempfile.NamedTemporaryFile() as log:
        line = [sys.executable, "-I", "-c", METER, log.name, *PROGRAM, f'folder="{folder}"']
        process = subprocess.run(line, capture_output=True, text=True, check=True)
        code, processor, peak = json.loads(process.stdout)
        if code:
            output = Path(log.name).read_text(errors="replace")
            raise RuntimeError(f"{' '.join(PROGRAM)} failed:\n{output[-2000:]}")
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "peak_mb": round(peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024), 1),
        "page_mb": round((folder / "report.html").stat().st_size / 1e6, 2),
    }


def report(row: dict[str, float | int | str | None]) -> str:
    """The row in words."""
    return (
        f"report of {row['runs']} runs on {row['benchmarks']} benchmarks of {row['questions']} questions: "
        f"{row['seconds']} s, {row['processor_seconds']} s of processor time (aim: at most {AIM_SECONDS:g}), "
        f"{row['peak_mb']} MB at the peak (aim: at most {AIM_MB:g}), report.html {row['page_mb']} MB"
    )


def _profile(folder: Path) -> int:
    line = [sys.executable, "-m", "cProfile", "-s", "cumulative", "-m", "src.report", f'folder="{folder}"']
    process = subprocess.run(line, capture_output=True, text=True, check=False)
    lines = process.stdout.splitlines()
    start = next((place for place, text in enumerate(lines) if "function calls" in text), 0)
    print("\n".join(lines[start : start + LINES]), process.stderr, sep="\n")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
