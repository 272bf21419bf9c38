"""The smallest difference that each column of a table could have shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from esmerge.core.errors import InputError
from esmerge.evaluation.power import POWER, minimum_detectable
from esmerge.report.load import SweepResults
from esmerge.report.statistics import LEVEL, Column, Comparison, best_row, columns, compare


def detectable(sweep: SweepResults, comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Column -> smallest true difference that its comparisons probably find, the median over them, in [0, 1].

    Every comparison is held to the strictest step of Holm's correction over the table. A column that nothing was
    compared in is judged by its two best rows; one where these cannot be compared is left out.
    """
    level = LEVEL / max(1, len(comparisons))
    smallest = {}
    for column in columns(sweep):
        of_column = [comparison for comparison in comparisons if comparison.column.name == column.name]
        of_column = of_column or _best_two(sweep, column)
        if of_column:
            smallest[column.name] = median(minimum_detectable(tested.result, level) for tested in of_column)
    return smallest


def detectable_note(smallest: Mapping[str, float], titles: Mapping[str, str], comparisons: int) -> str:
    """One sentence for below a table.

    Args:
        smallest: column -> difference.
        titles: column -> what a reader calls it.
        comparisons: that the correction is over.
    """
    over = f"p < {LEVEL} after correction for {comparisons} comparisons" if comparisons > 1 else f"p < {LEVEL}"
    values = ", ".join(f"{titles[name]} {100 * value:.1f}" for name, value in smallest.items())
    return f"Smallest difference that could have been shown ({100 * POWER:.0f} % power at {over}), in points: {values}."


def _best_two(sweep: SweepResults, column: Column) -> list[Comparison]:
    first = best_row(sweep, sweep.rows, column)
    second = best_row(sweep, [row for row in sweep.rows if row is not first], column)
    if first is None or second is None:
        return []
    try:
        return [compare(sweep, first, second, column)]
    except InputError:
        return []  # rows of different questions: the table holds nothing that could be shown
