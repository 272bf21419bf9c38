"""The files that hold a report's tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from esmerge.report.latex import latex
from esmerge.report.load import SweepResults
from esmerge.report.tables import ReportTable, markdown
from esmerge.storage.files import write_table, write_text

TABLE_COLUMNS = ("table", "block", "method", "column", "title", "accuracy", "sd", "ci_low", "ci_high", "seeds", "place",
                 "significantly", "detectable", "published", "source")  # fmt: skip


def write_tables(sweep: SweepResults, *tables: ReportTable, appendix: Sequence[str] = ()) -> list[Path]:
    """Write ``table.md``, closed by the appendix, ``table.tex`` and ``table.csv`` into the sweep folder."""
    return [
        write_text(sweep.folder / "table.md", "\n".join([*map(markdown, tables), *appendix])),
        write_text(sweep.folder / "table.tex", "\n".join(map(latex, tables))),
        write_table(sweep.folder / "table.csv", table_frame(tables)),
    ]


def table_frame(tables: Sequence[ReportTable]) -> pd.DataFrame:
    """The tables as one tidy frame, one row per method and column, accuracies as shares; published ones as well."""
    rows = []
    for table in tables:
        for line in table.lines:
            for column, entry in zip(table.columns, line.entries, strict=True):
                score, quoted = entry.cell, entry.published
                facts = (score.value, score.sd, score.low, score.high, score.seeds) if score else (None,) * 5
                place = "best" if entry.best else "second" if entry.second else ""
                against = {1: "above", -1: "below", 0: ""}[entry.mark]
                published = (None if quoted is None else round(quoted / 100, 6), entry.source)
                smallest = table.detectable.get(column.name)
                names = (table.title, line.block, line.title, column.name, column.title)
                rows.append((*names, *facts, place, against, smallest, *published))
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))
