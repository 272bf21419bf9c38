"""Accuracies beside one another: against retention, cost, and settings that a sweep varied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from esmerge.core.methods import MethodKind
from esmerge.report.costs import cost_table
from esmerge.report.load import Row, SweepResults, as_number
from esmerge.report.seeds import ranked_rows, seed_notes, with_note
from esmerge.report.statistics import Cell, Column, cell, heading, headline

CROSS_MODAL, RETENTION = "cross_modal", "retention"
VARIED = ("granularity.", "method.")  # settings of the formulas and of the merges


@dataclass(frozen=True)
class _Line:
    """What the points of one line share: a method, and every number but the one that varies."""

    method: str
    tuned: bool
    settings: frozenset[tuple[str, float]]


def main_column(sweep: SweepResults) -> Column | None:
    """What figures call accuracy: the cross-modal mean; without such benchmarks, the first family's; None if empty."""
    columns = headline(sweep)
    return next((column for column in columns if column.family == CROSS_MODAL), columns[0] if columns else None)


def best_rows(sweep: SweepResults, rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many rows: the most accurate in the main column, in table order."""
    column = main_column(sweep)
    if len(rows) <= most or column is None:
        return list(rows)[:most]
    ranked = {row.key for row in ranked_rows(sweep, rows, column.benchmarks)}
    scores = {row.key: (row.key in ranked, score.value) for row in rows if (score := cell(sweep, row, column))}
    best = sorted(scores, key=lambda key: scores[key], reverse=True)[:most]
    return [row for row in rows if row.key in best]


def methods_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``panel, title, kind, benchmark, value, low, high``: every row on every family, and on its benchmarks."""
    points, notes = [], seed_notes(sweep)
    for column in headline(sweep):
        for row in sweep.rows:
            title = with_note(row.title, notes.get(row.key, ""))
            facts = {"panel": heading(column), "title": title, "kind": row.kind.value}
            score = cell(sweep, row, column)
            value, low, high = (score.value, score.low, score.high) if score else (np.nan,) * 3
            points.append({**facts, "benchmark": "", "value": value, "low": low, "high": high})
            for benchmark in column.benchmarks if column.is_mean and score else ():
                seeds = [sweep.accuracy(run, benchmark) for run in row.runs.values()]
                mean = np.mean([seed.value for seed in seeds if seed])
                points.append({**facts, "benchmark": benchmark, "value": mean, "low": mean, "high": mean})
    return pd.DataFrame(points)


def retention_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``title, kind, x, x_low, x_high, y, y_low, y_high``: retention and cross-modal accuracy of each row.

    This and the two tables below leave out rows that lack seeds.
    """
    by_family = {column.family: column for column in headline(sweep)}
    points = []
    if {CROSS_MODAL, RETENTION} <= by_family.keys():
        benchmarks = [name for family in (CROSS_MODAL, RETENTION) for name in by_family[family].benchmarks]
        for row in ranked_rows(sweep, sweep.rows, benchmarks):
            y, x = (cell(sweep, row, by_family[family]) for family in (CROSS_MODAL, RETENTION))
            if x and y:
                points.append({"title": row.title, "kind": row.kind.value, **_axis("x", x), **_axis("y", y)})
    return pd.DataFrame(points)


def cost_points(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``title, kind, x, y, y_low, y_high``: seconds of measuring and merging, and accuracy, of each merge."""
    column = main_column(sweep)
    costs = cost_table(sweep)
    total = costs["measuring_seconds"].fillna(0.0) + costs["merging_seconds"].fillna(0.0)
    seconds = dict(zip(costs["method"], total.astype(float), strict=True))
    points = []
    for row in ranked_rows(sweep, sweep.rows, column.benchmarks) if column else []:
        score = cell(sweep, row, column) if column else None
        if score and row.title in seconds:
            points.append({"title": row.title, "kind": row.kind.value, "x": seconds[row.title], **_axis("y", score)})
    return pd.DataFrame(points)


def sensitivity_table(sweep: SweepResults) -> pd.DataFrame:
    """Columns ``setting, method, value, y, y_low, y_high``: rows that differ in one number only, setting by setting."""
    column = main_column(sweep)
    rows = ranked_rows(sweep, sweep.rows, column.benchmarks) if column else []
    scored = [(row, score) for row in rows if column and (score := cell(sweep, row, column))]
    numbers = {row.key: _numbers(sweep, row) for row, _ in scored}
    points = []
    for setting in sorted({name for values in numbers.values() for name in values}):
        lines: dict[_Line, list[tuple[float, Cell]]] = {}
        for row, score in scored:
            values = dict(numbers[row.key])
            if setting in values:
                value = values.pop(setting)
                line = _Line(_method(row), row.tuned, frozenset(values.items()))
                lines.setdefault(line, []).append((value, score))
        for line, members in lines.items():
            if len({value for value, _ in members}) > 1:
                name = _line_title(line, lines)
                points += [{"setting": setting, "method": name, "value": v, **_axis("y", s)} for v, s in members]
    return pd.DataFrame(points)


def _axis(name: str, score: Cell) -> Mapping[str, float]:
    return {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}


def _numbers(sweep: SweepResults, row: Row) -> dict[str, float]:
    """The numeric settings of a row's formulas and merge."""
    if row.kind in (MethodKind.FLOOR, MethodKind.REFERENCE):
        return {}
    config = sweep.configs[row.key]
    return {
        name: number
        for name, text in config.items()
        if name.startswith(VARIED) and (number := as_number(text)) is not None
    }


def _method(row: Row) -> str:
    details = ", ".join(filter(None, [row.granularity, row.merge_space]))
    return f"{row.record.title} ({details})" if details else row.record.title


def _line_title(line: _Line, lines: Iterable[_Line]) -> str:
    """A method, and those of its other settings that differ between its lines of one panel."""
    common = frozenset.intersection(*(other.settings for other in lines if other.method == line.method))
    telling = [f"{name.split('.')[-1]}={value:g}" for name, value in sorted(line.settings - common)]
    return ", ".join([line.method, *["tuned"] * line.tuned, *telling])
