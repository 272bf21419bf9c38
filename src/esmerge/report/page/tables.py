"""The tables of results on the page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from esmerge.report.costs import COLUMNS, HEADS, NOTE, cost_number, cost_table
from esmerge.report.load import SweepResults
from esmerge.report.page.cells import NOTHING, PageCell, PageTable, frame_table, places
from esmerge.report.retention import NOTE as NOTE_ON_RETENTION
from esmerge.report.seeds import seed_notes, with_note
from esmerge.report.tables import ABOVE, BELOW, MARKS, ReportTable, TableEntry, interval, legend, number

SMALLEST = 0.0001  # p values below are not told apart


def p_value(value: object) -> str:
    """A p value with four digits behind the point."""
    return f"< {SMALLEST}" if float(str(value)) < SMALLEST else f"{float(str(value)):.4f}"


POINTS = places(1, scale=100, signed=True)
COMPARISONS = {
    "column": ("column", None),
    "method": ("method", None),
    "against": ("against", None),
    "difference": ("difference, points", POINTS),
    "ci_low": ("95 % from", POINTS),
    "ci_high": ("to", POINTS),
    "p": ("p", p_value),
    "p_holm": ("p, Holm", p_value),
    "n": ("n", places(0)),
    "detectable": ("detectable, points", places(1, scale=100)),
}
RETAINED = {
    "table": ("table", None),
    "method": ("method", None),
    "title": ("benchmark", None),
    "accuracy": ("accuracy, %", places(1, scale=100)),
    "best_single": ("best single model", None),
    "best_accuracy": ("its accuracy, %", places(1, scale=100)),
    "kept": ("kept, %", places(1, scale=100)),
}
COMPARED = (
    "Paired on the same examples, each benchmark of a mean counting equally: McNemar's exact test, Holm's correction "
    "over the table. Intervals: Tango's score interval, of means the bootstrap's. Detectable: the smallest difference "
    "that so many questions could have shown.",
)


def results_table(table: ReportTable, index: int) -> PageTable:
    """The main table, each row with its kind, so that it can be sorted and filtered."""
    heads, numeric = ["kind", "method"], [False, False]
    for column in table.columns:
        quoted = [f"{column.title}, published"] if column.name in table.quoted else []
        heads += [column.title, *quoted]
        numeric += [True] * (1 + len(quoted))
    rows = []
    for line in table.lines:
        cells = [PageCell(line.block, line.block), PageCell(line.heading, line.title)]
        for column, entry in zip(table.columns, line.entries, strict=True):
            cells += [_measured(entry), *([_published(entry)] if column.name in table.quoted else [])]
        rows.append(tuple(cells))
    title, notes = table.title or "Results", legend(table, f"{ABOVE} / {BELOW}")
    return PageTable(f"results-{index}", title, tuple(heads), tuple(numeric), tuple(rows), tuple(notes))


def comparisons_table(frame: pd.DataFrame, tables: Sequence[ReportTable]) -> PageTable:
    """The rows of ``comparisons.csv``, with the columns called as in the tables."""
    titles = {column.name: column.title for table in tables for column in table.columns}
    named = frame.assign(column=[titles[name] for name in frame["column"]])
    return frame_table("comparisons", "Comparisons with the best baseline", named, COMPARISONS, *COMPARED)


def retained_table(frame: pd.DataFrame, tables: Sequence[ReportTable]) -> PageTable:
    """The rows of ``retention.csv`` and what they could have shown; the table's name only where there are several."""
    heads = {name: form for name, form in RETAINED.items() if name != "table" or frame["table"].any()}
    power = [": ".join(filter(None, [table.title, note])) for table in tables if (note := table.power_note())]
    return frame_table("retention", "Retention", frame, heads, NOTE_ON_RETENTION, *power)


def costs_table(sweep: SweepResults) -> PageTable:
    """Seconds and memory of every merge."""
    forms = [None, *[_cost] * (len(COLUMNS) - 1)]
    heads = dict(zip(COLUMNS, zip(HEADS, forms, strict=True), strict=True))
    return frame_table("costs", "Costs", cost_table(sweep), heads, NOTE)


def _cost(value: object) -> str:
    return cost_number(float(str(value)))


def metrics_table(sweep: SweepResults) -> PageTable:
    """Every metric of every row on every benchmark, means over seeds."""
    notes = seed_notes(sweep)
    titles = {run: with_note(row.title, notes.get(row.key, "")) for row in sweep.rows for run in row.runs.values()}
    names = {benchmark.name: benchmark.title for benchmark in sweep.benchmarks}
    long = sweep.results.assign(
        method=sweep.results["run"].map(titles),
        title=sweep.results["benchmark"].map(names),
        value=pd.to_numeric(sweep.results["value"]),
    )
    metrics = list(dict.fromkeys(long["metric"]))
    wide = long.groupby(["method", "title", "metric"], sort=False)["value"].mean().unstack("metric")
    frame = wide.reindex(columns=metrics).reset_index()
    heads = {"method": ("method", None), "title": ("benchmark", None)}
    numbers = {metric: (metric.replace("_", " "), places(3)) for metric in metrics}
    return frame_table("metrics", "Every metric", frame, {**heads, **numbers}, "Means over seeds.")


def _measured(entry: TableEntry) -> PageCell:
    if entry.cell is None:
        return PageCell(NOTHING, None)
    style = "best" if entry.best else "second" if entry.second else ""
    return PageCell(number(entry.cell), entry.cell.value, f"{interval(entry.cell)}{MARKS[entry.mark]}", style)


def _published(entry: TableEntry) -> PageCell:
    if entry.published is None:
        return PageCell(NOTHING, None)
    return PageCell(f"{entry.published:.1f}", entry.published)
