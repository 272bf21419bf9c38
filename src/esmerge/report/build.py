"""From a sweep folder to its report, from stored files alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esmerge.report.costs import cost_lines, tuned_lines, write_costs
from esmerge.report.figures import write_figures
from esmerge.report.load import load_sweep
from esmerge.report.statistics import Comparison, against_baseline
from esmerge.report.tables import ReportTable, build_table, write_tables
from esmerge.report.verdict import verdict
from esmerge.storage.files import write_table
from esmerge.tracking.results import write_results

COMPARISON_COLUMNS = ("column", "method", "against", "difference", "ci_low", "ci_high", "p", "p_holm", "n")


@dataclass(frozen=True)
class Report:
    """What a report consists of.

    Attributes:
        paths: every file written.
        verdict: one paragraph; the last thing to show.
        tables: of published settings and, where there are any, of tuned ones.
        notes: comparisons that could not be made, and why.
    """

    folder: Path
    tables: tuple[ReportTable, ...]
    paths: tuple[Path, ...]
    verdict: str
    notes: tuple[str, ...]


def build_report(folder: Path | str) -> Report:
    """Write ``results.csv``, ``comparisons.csv``, ``table.md``, ``table.tex`` and ``figures/`` of a sweep.

    Raises:
        StoreError: the folder is absent or damaged.
    """
    paths = [write_results(folder)]
    sweep = load_sweep(folder)
    comparisons, notes, tables = [], [], []
    for title, part in sweep.parts().items():
        part_comparisons, part_notes = against_baseline(part)
        comparisons += part_comparisons
        notes += part_notes
        tables.append(build_table(part, part_comparisons, title))
    paths.append(_write_comparisons(sweep.folder / "comparisons.csv", comparisons))
    tuned = tuned_lines([row for row in sweep.rows if row.tuned], sweep)
    paths += write_tables(sweep, *tables, appendix=[*tuned, *cost_lines(sweep)])
    paths += [*write_costs(sweep), *write_figures(sweep)]
    text = " ".join([verdict(sweep), *[f"Not compared: {note}." for note in notes]])
    return Report(sweep.folder, tuple(tables), tuple(paths), text, tuple(notes))


def _write_comparisons(path: Path, comparisons: Sequence[Comparison]) -> Path:
    rows = [
        {
            "column": comparison.column.name,
            "method": comparison.row.title,
            "against": comparison.other.title,
            "difference": comparison.result.difference,
            "ci_low": comparison.result.ci_low,
            "ci_high": comparison.result.ci_high,
            "p": comparison.result.p_value,
            "p_holm": comparison.p_holm,
            "n": comparison.result.n,
        }
        for comparison in comparisons
    ]
    return write_table(path, pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS)))
