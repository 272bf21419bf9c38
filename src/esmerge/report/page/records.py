"""Where the numbers come from: runs, their settings and their provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from esmerge.report.load import SweepResults, flatten
from esmerge.report.page.cells import PageTable, frame_table, places, text_table
from esmerge.tracking.results import run_folders

RUNS = {
    "run": ("run", None),
    "state": ("state", None),
    "method": ("method", None),
    "seed": ("seed", None),
    "seconds": ("seconds", places(1)),
    "finished": ("finished, UTC", None),
    "reason": ("reason", None),
}
Facts = Mapping[str, Mapping[str, str]]
"""Run -> dotted name -> value."""


def runs_table(sweep: SweepResults) -> PageTable:
    """Every run, failed ones with the reason."""
    rows = {run: (row.title, seed) for row in sweep.rows for seed, run in row.runs.items()}
    lines = []
    for run in run_folders(sweep.folder):
        stored = run.status()
        status = sweep.failures.get(run.name, stored)
        method, seed = rows.get(run.name, (None, None))
        times = {"seconds": stored.seconds, "finished": stored.finished}
        lines.append({"run": run.name, "state": status.state, "method": method, "seed": seed, **times})
        lines[-1]["reason"] = status.reason
    return frame_table("runs", "Runs", pd.DataFrame(lines, columns=list(RUNS)), RUNS)


def settings_tables(sweep: SweepResults) -> list[PageTable]:
    """Settings that all finished runs share, and those that tell them apart."""
    return _shared_and_differing("settings", "Settings", sweep.configs, "config.yaml")


def provenance_tables(sweep: SweepResults) -> list[PageTable]:
    """Code, libraries, machine and data of all finished runs, and what differs between them."""
    names = [run for row in sweep.rows for run in row.runs.values()]
    facts = {name: flatten(sweep.run(name).read_provenance()) for name in names}
    return _shared_and_differing("provenance", "Provenance", facts, "provenance.json")


def last_finished(sweep: SweepResults) -> str:
    """When the last run ended, UTC; empty if none has. The same store gives the same page on any day."""
    return max((run.status().finished or "" for run in run_folders(sweep.folder)), default="")


def _shared_and_differing(name: str, title: str, facts: Facts, file: str) -> list[PageTable]:
    keys = list(dict.fromkeys(key for values in facts.values() for key in values))
    differing = [key for key in keys if len({values.get(key) for values in facts.values()}) > 1]
    shared = [(key, next(iter(facts.values()))[key]) for key in keys if key not in differing]
    note = f"Each run's folder holds its {file}."
    return [
        text_table(name, f"{title} of all runs", ("name", "value"), shared, note),
        *([_differing(name, title, facts, differing)] if differing else []),
    ]


def _differing(name: str, title: str, facts: Facts, keys: Sequence[str]) -> PageTable:
    rows = [(run, *(values.get(key, "") for key in keys)) for run, values in facts.items()]
    return text_table(f"{name}-by-run", f"{title} that differ", ("run", *keys), rows)
