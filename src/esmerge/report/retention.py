"""What each method keeps of the specialists' knowledge: its accuracy as a share of the best specialist's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from esmerge.core.methods import MethodKind
from esmerge.report.detectable import detectable_note
from esmerge.report.load import Row, SweepResults
from esmerge.report.seeds import ranked_rows
from esmerge.report.statistics import Column, best_row, cell, columns
from esmerge.report.tables import ReportTable
from esmerge.storage.files import write_table

RETENTION = "retention"
COLUMNS = ("table", "method", "benchmark", "title", "accuracy", "best_single", "best_accuracy", "kept")
NOTE = (
    "Accuracy in % of the accuracy of the best single model, base or specialist, on the same questions; 100 keeps all "
    "that one of them knew. Means over seeds; empty where a method lacks seeds that others have."
)


def retention_table(parts: Mapping[str, SweepResults]) -> pd.DataFrame:
    """One line per method and retention benchmark, and their mean; accuracies and ``kept`` are shares.

    Args:
        parts: title of a table -> what it shows.
    """
    lines = [
        {"table": title, **line}
        for title, part in parts.items()
        for column in columns(part)
        if column.family == RETENTION
        for line in _lines(part, column)
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def write_retention(sweep: SweepResults, table: pd.DataFrame) -> list[Path]:
    """Write ``retention.csv``, if retention was asked about."""
    return [write_table(sweep.folder / "retention.csv", table)] if len(table) else []


def retention_lines(table: pd.DataFrame, tables: Sequence[ReportTable]) -> list[str]:
    """The shares as Markdown, with what they could have shown; nothing where retention was not asked about."""
    lines: list[str] = []
    for title, of_table in table.groupby("table", sort=False):
        wide = of_table.pivot(index="method", columns="title", values="kept")
        wide = wide.loc[of_table["method"].unique(), of_table["title"].unique()]
        lines += [", ".join(["## Retention", *([str(title)] if title else [])]), ""]
        lines += ["| " + " | ".join(["method", *map(_escaped, wide.columns)]) + " |"]
        lines += ["|---" + "|---:" * len(wide.columns) + "|"]
        for method, shares in wide.iterrows():
            cells = ["" if pd.isna(share) else f"{100 * share:.1f}" for share in shares]
            lines.append("| " + " | ".join([_escaped(str(method)), *cells]) + " |")
        names = dict(zip(of_table["benchmark"], of_table["title"], strict=True))
        notes = [_smallest(report, names) for report in tables if report.title == title]
        lines += ["", f"- {NOTE}", *[f"- {note}" for note in notes if note], ""]
    return lines


def _smallest(report: ReportTable, titles: Mapping[str, str]) -> str:
    of_columns = {name: report.detectable[name] for name in titles if name in report.detectable}
    return f"Of the accuracies: {detectable_note(of_columns, titles, report.comparisons)}" if of_columns else ""


def _lines(sweep: SweepResults, column: Column) -> list[dict[str, object]]:
    best = best_row(sweep, _single_models(sweep), column)
    best_score = cell(sweep, best, column) if best else None
    if best is None or best_score is None or best_score.value == 0:
        return []
    methods = [row for row in sweep.rows if row.kind is not MethodKind.FLOOR]
    ranked = {row.title for row in ranked_rows(sweep, methods, column.benchmarks)}
    scores = {row.title: cell(sweep, row, column) for row in methods}
    return [
        {
            "method": title,
            "benchmark": column.name,
            "title": column.title,
            "accuracy": score.value,
            "best_single": best.title,
            "best_accuracy": best_score.value,
            "kept": score.value / best_score.value if title in ranked else None,
        }
        for title, score in scores.items()
        if score
    ]


def _single_models(sweep: SweepResults) -> list[Row]:
    return [row for row in sweep.of_kind(MethodKind.REFERENCE) if not row.record.finetuned]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_")
