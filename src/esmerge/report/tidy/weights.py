"""Which rows of ES-Merging a figure of weights shows: of many, the most accurate."""

from __future__ import annotations

from esmerge.core.methods import MethodKind
from esmerge.report.load import Row, SweepResults
from esmerge.report.tidy.accuracies import best_rows


def weighed(sweep: SweepResults, finer: bool = False) -> list[Row]:
    """Rows of ES-Merging that stored coefficients; ``finer``: those that weigh single entries."""
    rows = [row for row in sweep.of_kind(MethodKind.ES) if not (finer and row.granularity == "layer")]
    return [row for row in rows if any(sweep.run(run).coefficients.exists() for run in row.runs.values())]


def shown(sweep: SweepResults, most: int, finer: bool = False) -> list[Row]:
    """At most so many of them, in table order."""
    return best_rows(sweep, weighed(sweep, finer), most)


def left_out(sweep: SweepResults, most: int, finer: bool = False) -> str:
    """What that leaves out, as a sentence; empty where nothing."""
    rows = len(weighed(sweep, finer))
    return f" The {most} most accurate of {rows} rows of ES-Merging." if rows > most else ""
