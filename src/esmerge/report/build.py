"""From a sweep folder to its report, from stored files alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esmerge.core.errors import StoreError
from esmerge.evaluation.power import minimum_detectable
from esmerge.report.cards import write_cards
from esmerge.report.costs import cost_lines, tuned_lines, write_costs
from esmerge.report.drawing import Drawers, drawers
from esmerge.report.figures import write_figures
from esmerge.report.load import load_sweep
from esmerge.report.page.write import write_page
from esmerge.report.retention import retention_lines, retention_table, write_retention
from esmerge.report.statistics import LEVEL, Comparison, against_baseline
from esmerge.report.table_files import write_tables
from esmerge.report.tables import ReportTable, build_table
from esmerge.report.verdict import verdict
from esmerge.storage.files import write_table
from esmerge.tracking.planned import read_plan
from esmerge.tracking.results import run_folders, store_results

COMPARISON_COLUMNS = (
    "column",
    "method",
    "against",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "n",
    "detectable",
)


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
    """Write ``results.csv``, ``comparisons.csv``, the tables (``table.md``, ``.tex``, ``.csv``), ``figures/``
    and ``report.html``.

    Raises:
        StoreError: the folder is absent, damaged, or holds no run of a sweep.
    """
    runs = len(run_folders(folder))
    if not runs and read_plan(Path(folder)) is None:
        raise StoreError(f"{folder} holds no run of a sweep: give the folder that holds the runs, outputs/NAME")
    with drawers(runs, first=_nothing) as beside:
        return _build(folder, beside)


def _build(folder: Path | str, beside: Drawers) -> Report:
    stored, collected = store_results(folder)
    paths, sweep = [stored], load_sweep(folder, collected)
    figures = write_figures(sweep, beside)  # drawn beside what follows
    comparisons: list[list[Comparison]] = []  # those of one table are corrected together
    notes, tables, parts = [], [], sweep.parts()
    for title, part in parts.items():
        part_comparisons, part_notes = against_baseline(part)
        comparisons.append(part_comparisons)
        notes += part_notes
        tables.append(build_table(part, part_comparisons, title))
    compared = comparison_frame(comparisons)
    paths.append(write_table(sweep.folder / "comparisons.csv", compared))
    tuned = tuned_lines([row for row in sweep.rows if row.tuned], sweep)
    retention = retention_table(parts)
    appendix = [*tuned, *retention_lines(retention, tables), *cost_lines(sweep), *figures.lines()]
    paths += write_tables(sweep, *tables, appendix=appendix)
    text = " ".join([verdict(sweep), *[f"Not compared: {note}." for note in notes]])
    paths += [*write_retention(sweep, retention), *write_costs(sweep), *write_cards(sweep)]
    page = write_page(sweep, tables, compared, retention, figures, text)
    paths += [*figures.paths, page]
    return Report(sweep.folder, tuple(tables), tuple(paths), text, tuple(notes))


def _nothing() -> None:
    """What another process does first: by then it has imported this module, and so what draws."""


def comparison_frame(by_table: Sequence[Sequence[Comparison]]) -> pd.DataFrame:
    """The rows of ``comparisons.csv``; the comparisons of one table are corrected together."""
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
            "detectable": minimum_detectable(comparison.result, LEVEL / len(comparisons)),
        }
        for comparisons in by_table
        for comparison in comparisons
    ]
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
