"""A sweep folder as a whole: its runs, its failures, and the one tidy table over all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock

from esmerge.core.errors import StoreError
from esmerge.storage.files import write_table
from esmerge.tracking.run_files import RESULT_COLUMNS
from esmerge.tracking.store import RunFolder, Status

COMMAND = "command.txt"  # in a sweep folder: the command that goes on in it


def run_folders(sweep: Path | str) -> list[RunFolder]:
    """The runs of a sweep, in natural order (run 2 before run 10).

    Raises:
        StoreError: there is no such folder.
    """
    if not Path(sweep).is_dir():
        raise StoreError(f"there is no sweep folder {str(sweep)!r}: give the one that holds the runs, outputs/<sweep>")
    folders = [path for path in Path(sweep).iterdir() if (path / "status.json").exists()]
    return [RunFolder(path) for path in sorted(folders, key=lambda path: _natural(path.name))]


@dataclass(frozen=True)
class CollectedRuns:
    """Every run of a sweep at one moment; a run's files are checked against their checksums once.

    Attributes:
        outcomes: run -> its status, where a killed or damaged run counts as failed.
        results: the rows of every finished run, in the columns of ``results.csv``.
    """

    outcomes: Mapping[str, Status]
    results: pd.DataFrame

    def unfinished(self) -> dict[str, Status]:
        """Runs that are not done."""
        return {name: status for name, status in self.outcomes.items() if status.state != "done"}


def collect_runs(sweep: Path | str) -> CollectedRuns:
    """Outcomes and results of all runs; no rows if none has finished."""
    runs = run_folders(sweep)
    outcomes = {run.name: run.outcome() for run in runs}
    finished = [run for run in runs if outcomes[run.name].state == "done"]
    tables = [run.read_metrics() for run in finished if (run.path / "metrics.csv").exists()]
    empty = pd.DataFrame(columns=list(RESULT_COLUMNS))
    return CollectedRuns(outcomes, pd.concat(tables, ignore_index=True) if tables else empty)


def unfinished(sweep: Path | str) -> dict[str, Status]:
    """Runs that are not done, by name; a killed run counts as failed."""
    outcomes = {run.name: run.outcome() for run in run_folders(sweep)}
    return {name: status for name, status in outcomes.items() if status.state != "done"}


def collect(sweep: Path | str) -> pd.DataFrame:
    """The rows of every finished run, in the columns of ``results.csv``; no rows if none has finished."""
    return collect_runs(sweep).results


def write_results(sweep: Path | str) -> Path:
    """Write ``results.csv`` from the runs that have finished so far; several processes may do so at once."""
    return store_results(sweep)[0]


def store_results(sweep: Path | str) -> tuple[Path, CollectedRuns]:
    """Write ``results.csv`` as ``write_results`` does, and say what it was written from."""
    run_folders(sweep)  # refuses an absent folder, which the lock would create
    path = Path(sweep) / "results.csv"
    with FileLock(path.with_name(".results.lock")):
        collected = collect_runs(sweep)
        return write_table(path, collected.results), collected


def latest_sweep(outputs: Path | str, begun: bool = False) -> Path:
    """The sweep folder under ``outputs`` whose runs changed last.

    Args:
        begun: count sweeps that were started, too, whether or not a run of theirs was.

    Raises:
        StoreError: there is none.
    """
    changed: dict[Path, float] = {}
    stamps = {path: path.parent.parent for path in Path(outputs).glob("*/*/status.json")}
    if begun:
        stamps |= {path: path.parent for path in Path(outputs).glob(f"*/{COMMAND}")}
    for path, sweep in stamps.items():
        changed[sweep] = max(changed.get(sweep, 0.0), path.stat().st_mtime)
    if not changed:
        raise StoreError(f"no sweep was found under {str(outputs)!r}: run python -m src.sweep, or give folder=PATH")
    return max(changed, key=lambda sweep: changed[sweep])


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
