"""What a merge costs, and what tuning chose: the appendix of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from esmerge.report.load import Row, SweepResults
from esmerge.storage.files import write_table

COLUMNS = ("method", "measuring_seconds", "measuring_mib", "merging_seconds", "merging_mib")
HEADS = ("method", "measuring, s", "measuring, MiB", "merging, s", "merging, MiB")
NO_SETTINGS = ("accuracy", "failure")  # columns of ``tuning.csv`` that no method has
NOTE = (
    "Measuring: what a method reads from the probe (or from questions) before it can merge, when it was done first. "
    "Memory: the peak beyond what the process held before; empty where the system does not tell. Means over seeds."
)


def cost_table(sweep: SweepResults) -> pd.DataFrame:
    """One line per merge: seconds and peak memory of measuring and merging, means over seeds."""
    lines = []
    for row in sweep.rows:
        run_costs = [costs for run in row.runs.values() if (costs := sweep.run(run).read_costs())]
        if run_costs:
            lines.append({"method": row.title, **_means(run_costs)})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def write_costs(sweep: SweepResults) -> list[Path]:
    """Write ``costs.csv``, if any run merged."""
    table = cost_table(sweep)
    return [write_table(sweep.folder / "costs.csv", table)] if len(table) else []


def cost_lines(sweep: SweepResults) -> list[str]:
    """The costs as Markdown; nothing if no run merged."""
    table = cost_table(sweep)
    if table.empty:
        return []
    rows = ["| " + " | ".join(map(_markdown_cell, line)) + " |" for line in table.itertuples(index=False)]
    head = ["| " + " | ".join(HEADS) + " |", "|---" + "|---:" * (len(HEADS) - 1) + "|"]
    return ["## Costs", "", *head, *rows, "", f"- {NOTE}", ""]


def tuned_lines(rows: Iterable[Row], sweep: SweepResults) -> list[str]:
    """What tuning chose for each row and seed, as Markdown."""
    lines = []
    for row in rows:
        for seed, run in row.runs.items():
            trials = sweep.run(run).read_tuning()
            if trials is not None and len(trials):
                lines.append(f"- {row.title}, seed {seed}: {_best_trial(trials)}")
    return ["Chosen on the validation split:", "", *lines, ""] if lines else []


def _best_trial(trials: pd.DataFrame) -> str:
    records, scored = trials.to_dict("records"), trials.dropna(subset=["accuracy"]).to_dict("records")
    if not scored:
        return f"nothing: all {len(records)} trials failed"
    best = max(scored, key=lambda trial: trial["accuracy"])  # the earlier of equals
    numbers = {name: value for name, value in best.items() if name not in NO_SETTINGS and not pd.isna(value)}
    values = ", ".join(f"{name}={value:.3g}" for name, value in numbers.items()) or "published settings"
    published = records[0]["accuracy"]
    first = "failed" if pd.isna(published) else f"{100 * published:.1f} %"
    failed = f", {len(records) - len(scored)} of {len(records)} trials failed" * (len(scored) < len(records))
    return f"{values} ({100 * best['accuracy']:.1f} %, published settings {first}{failed})"


def _means(run_costs: list[dict[str, dict[str, float | None]]]) -> Mapping[str, float | None]:
    means: dict[str, float | None] = {}
    for part in ("measuring", "merging"):
        for key, unit in (("seconds", "seconds"), ("memory", "mib")):
            values = [value for costs in run_costs if (value := costs[part][key]) is not None]
            means[f"{part}_{unit}"] = round(sum(values) / len(values), 6) if values else None
    return means


def _markdown_cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return value.replace("|", "\\|")
    return "" if pd.isna(value) else cost_number(value)


def cost_number(value: float) -> str:
    """One decimal, or below 1 two significant digits."""
    value = float(f"{value:.2g}") if value < 1 else value
    return f"{value:.{max(1, 1 - math.floor(math.log10(value)))}f}" if value > 0 else "0.0"
