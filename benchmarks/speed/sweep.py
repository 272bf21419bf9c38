"""Where the time of a sweep goes, and what one more merge adds to it.

    python -m benchmarks.speed.sweep --out benchmarks/results/sweep_speed.csv
    python -m benchmarks.speed.sweep --cache /tmp/prepared --repeats 1

First the default sweep, from an empty cache unless --cache names one, and its longest stages. Then sweeps of one merge
and of several in turns, each in a process of its own with its own copy of that cache, without references: their
difference is what a merge costs at the margin, beside what merging and scoring take of it. Medians count. With both
--cache and --out, a run that is killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.kept import Kept
from benchmarks.speed.rows import append

from esmerge.core.progress import progress

WORK = ("merging", "scoring")  # stages that a merge cannot do without
NAMED = 3  # longest stages that the row names
AT_MOST = 1.05  # what is aimed at: one more merge beside its merging and scoring
OTHER = "other"  # imports, configs, the report


@dataclass(frozen=True)
class Spent:
    """Seconds of one sweep: the whole process, and stage -> seconds, longest first."""

    total: float
    stages: dict[str, float]

    def profile(self) -> dict[str, float]:
        """All stages and what is outside of them, longest first."""
        other_seconds = self.total - sum(self.stages.values())
        return dict(sorted({**self.stages, OTHER: other_seconds}.items(), key=lambda item: -item[1]))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="a sweep's cache; made, and then kept, if it is not there")
    parser.add_argument("--merges", type=int, default=5, help="merges of the longer sweep; the shorter has one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--settings", nargs="*", default=[], help="changes to every sweep, as NAME=VALUE")
    parser.add_argument("--out", type=Path, help="CSV file to append a row to")
    options = parser.parse_args(argv)
    if options.merges < 2:
        parser.error(f"--merges {options.merges}: expected at least 2, since one is what it is compared with")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, append."""
    options = arguments(argv)
    journal = Kept(options.out if options.cache else None, vars(options))
    with tempfile.TemporaryDirectory() as place:
        row = measured(options, Path(place), journal)
    print(report(row))
    if options.out:
        append(options.out, row)
    journal.done()
    return 0


def measured(options: argparse.Namespace, place: Path, journal: Kept) -> dict[str, object]:
    """One row: the profile of the default sweep, then what a merge adds."""
    cache = options.cache or place / "cache"
    common = [f"compute.threads={options.threads}", *options.settings]
    row: dict[str, object] = {
        "merges": options.merges, "repeats": options.repeats, "threads": options.threads,
        "settings": " ".join(options.settings), "taken_up": journal.taken_up,
        "cores": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__,
    }  # fmt: skip

    def default() -> dict[str, Any]:
        cold = not cache.exists()
        return {**asdict(sweep(["granularity=layer,element,joint", *common], cache, place / "default")), "cold": cold}

    with progress("sweep speed", 1 + 2 * options.repeats) as bar:
        default_run = journal("default", default)
        bar.update()
        short, long = [], []
        for turn in range(options.repeats):
            for runs, count in ((short, 1), (long, options.merges)):
                spent = journal(f"{count}, turn {turn}", lambda count=count: asdict(alone(count, common, cache, place)))
                runs.append(Spent(**spent))
                bar.update()
    profile = profiled(Spent(default_run["total"], default_run["stages"]))
    return {**row, "cold": default_run["cold"], **profile, **marginal(short, long, options.merges - 1)}


def alone(count: int, common: Sequence[str], cache: Path, place: Path) -> Spent:
    """A sweep of ``count`` merges that the cache has not seen, and nothing else."""
    copied, out = place / "copied", place / "merges"
    shutil.copytree(cache, copied)
    scales = ",".join(str(round(0.11 + 0.013 * number, 3)) for number in range(count))
    try:
        return sweep(["method=task_arithmetic", f"method.scale={scales}", "references=[]", *common], copied, out)
    finally:
        shutil.rmtree(copied)
        shutil.rmtree(out, ignore_errors=True)


def sweep(settings: Sequence[str], cache: Path, out: Path) -> Spent:
    """Run the front door in a process of its own; raises ``RuntimeError`` with what it said if it failed."""
    command = [sys.executable, "-m", "src.sweep", "-m", *settings, f"cache={cache}", f"hydra.sweep.dir={out}"]
    start = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    total = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{process.stdout[-2000:]}{process.stderr[-2000:]}")
    return Spent(total, json.loads((out / "timings.json").read_text()))


def profiled(run: Spent) -> dict[str, object]:
    """Seconds of the default sweep, and its longest stages."""
    columns: dict[str, object] = {"default_seconds": round(run.total, 2)}
    for place, (name, spent) in enumerate(list(run.profile().items())[:NAMED], start=1):
        columns |= {f"stage{place}": name, f"stage{place}_seconds": round(spent, 2)}
    return columns


def marginal(short: Sequence[Spent], long: Sequence[Spent], extra_merges: int) -> dict[str, object]:
    """Median seconds that one more merge adds: of the whole process, and of merging and scoring alone."""
    pairs = list(zip(short, long, strict=True))

    def added(seconds: Sequence[tuple[float, float]]) -> float:
        return statistics.median((after - before) / extra_merges for before, after in seconds)

    total = added([(a.total, b.total) for a, b in pairs])
    names = sorted({name for spent in (*short, *long) for name in spent.stages})
    stages = {name: added([(a.stages.get(name, 0.0), b.stages.get(name, 0.0)) for a, b in pairs]) for name in names}
    work = sum(stages.get(name, 0.0) for name in WORK)
    largest = max((name for name in names if name not in WORK), key=lambda name: stages[name], default="")
    return {
        "merge_seconds": round(total, 4),
        "work_seconds": round(work, 4),
        "times_work": round(total / work, 4),
        "largest_other": largest,
        "largest_other_seconds": round(stages.get(largest, 0.0), 4),
    }


def report(row: dict[str, object]) -> str:
    """The row in words."""
    stages = ", ".join(f"{row[f'stage{place}']} {row[f'stage{place}_seconds']} s" for place in range(1, NAMED + 1))
    kind = "from an empty cache" if row["cold"] else "with what the cache held"
    return "\n".join(
        [
            f"the default sweep, {kind}, {row['threads']} threads: {row['default_seconds']} s; longest: {stages}",
            f"one more merge: {row['merge_seconds']} s, of which merging and scoring {row['work_seconds']} s: "
            f"{row['times_work']} times these (aim: at most {AT_MOST:g})",
            f"most of the rest: {row['largest_other']} {row['largest_other_seconds']} s",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
