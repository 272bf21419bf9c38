"""The table over a sweep: methods down, benchmarks across, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from esmerge.core.methods import MethodKind
from esmerge.report.detectable import detectable, detectable_note
from esmerge.report.load import Row, SweepResults
from esmerge.report.methods import BLOCKS, MERGED
from esmerge.report.published import (
    CAVEAT,
    Published,
    assign,
    published_title,
    read_published,
    read_sources,
    shown,
    sources,
)
from esmerge.report.seeds import MEANING, ranked_rows, seed_notes, with_note
from esmerge.report.statistics import Cell, Column, Comparison, cell, columns, family_title

NOTHING = "\N{EN DASH}"
ABOVE, BELOW = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
MARKS = {1: f" {ABOVE}", -1: f" {BELOW}", 0: ""}


@dataclass(frozen=True)
class TableEntry:
    """What the table shows of one row in one column.

    Attributes:
        cell: our accuracy, if there is one.
        best, second: the highest, or the next lower, of all merges in this column, as displayed.
        mark: +1 / -1 where significantly above / below the best baseline, else 0.
        published: the published accuracy in percent, if there is one.
        source: of the published accuracy.
    """

    cell: Cell | None = None
    best: bool = False
    second: bool = False
    mark: int = 0
    published: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        entries: one per column.
        seeds: over how many seeds its means are, if over fewer than others.
    """

    block: str
    title: str
    entries: tuple[TableEntry, ...]
    seeds: str = ""

    @property
    def heading(self) -> str:
        """The title as the table shows it."""
        return with_note(self.title, self.seeds)


@dataclass(frozen=True)
class ReportTable:
    """Everything that the renderers need.

    Attributes:
        quoted: names of the columns that have published numbers beside them.
        departures: those of them that were asked on other questions than the published number -> what differs, for
            each benchmark of the column.
        title: what tells this table from another of the same sweep; empty if it is the only one.
        detectable: column -> the smallest difference that could have been shown.
        comparisons: that the correction for multiple testing is over.
    """

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    quoted: frozenset[str]
    seeds: int
    title: str = ""
    departures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    detectable: Mapping[str, float] = field(default_factory=dict)
    comparisons: int = 0

    def power_note(self) -> str:
        """What the table could have shown; empty where nothing can be compared."""
        titles = {column.name: column.title for column in self.columns}
        return detectable_note(self.detectable, titles, self.comparisons) if self.detectable else ""


def build_table(sweep: SweepResults, comparisons: Sequence[Comparison], title: str = "") -> ReportTable:
    """Lay the results of a sweep out; ``comparisons`` are those against the best baseline."""
    across = columns(sweep)
    names = [column.name for column in across]
    reported = {name: methods for name, methods in read_published().items() if name in names}
    assignment, orphans = assign(sweep.rows, shown(names, reported))
    marks = {(comparison.row.key, comparison.column.name): _mark(comparison) for comparison in comparisons}
    tops = {column.name: _tops(sweep, column) for column in across}
    ranked_keys = {column.name: {row.key for row in _ranked(sweep, column)} for column in across}
    notes, origins = seed_notes(sweep), read_sources()
    lines = []
    for row in sweep.rows:
        entries = []
        for column in across:
            measured = cell(sweep, row, column)
            ranked = row.key in ranked_keys[column.name] and measured is not None
            best, second = (ranked and _percent(measured.value) == top for top in tops[column.name])  # type: ignore[union-attr]
            entry = _published_entry(assignment.get(row.key), column.name, reported, origins)
            mark = marks.get((row.key, column.name), 0)
            entries.append(replace(entry, cell=measured, best=best, second=second, mark=mark))
        lines.append(Line(BLOCKS[row.kind], row.title, tuple(entries), notes.get(row.key, "")))
    for method in orphans:
        entries = [_published_entry(method, name, reported, origins) for name in names]
        lines.append(Line("Published only", published_title(method), tuple(entries)))
    seeds = max((len(row.runs) for row in sweep.rows), default=1)
    unlike = {
        benchmark.name: f"{benchmark.title}: {', '.join(benchmark.departures)}"
        for benchmark in sweep.benchmarks
        if benchmark.departures
    }
    departures = {
        column.name: tuple(unlike[name] for name in column.benchmarks if name in unlike)
        for column in across
        if column.name in reported and not unlike.keys().isdisjoint(column.benchmarks)
    }
    smallest = detectable(sweep, comparisons)
    return ReportTable(
        tuple(across), tuple(lines), frozenset(reported), seeds, title, departures, smallest, len(comparisons)
    )


def _published_entry(
    method: Published | None,
    column: str,
    reported: Mapping[str, Mapping[Published, float]],
    origins: Mapping[tuple[str, Published], str],
) -> TableEntry:
    if method is None or method not in reported.get(column, {}):
        return TableEntry()
    return TableEntry(published=reported[column][method], source=origins[column, method])


def markdown(table: ReportTable) -> str:
    """The table in GitHub's Markdown, followed by how to read it."""
    heads = ["method"]
    for column in table.columns:
        marks = "\N{DAGGER}" + "\N{DOUBLE DAGGER}" * (column.name in table.departures)
        heads += [column.title, *([f"{column.title}, published{marks}"] if column.name in table.quoted else [])]
    parts = [f"## {table.title}", ""] if table.title else []
    parts += ["| " + " | ".join(_md(head) for head in heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for block, lines in groupby(table.lines, key=lambda line: line.block):
        parts.append(f"| *{_md(block)}* |" + " |" * (len(heads) - 1))
        for line in lines:
            parts.append("| " + " | ".join([_md(line.heading), *table_cells(table, line, _entry_md)]) + " |")
    return "\n".join([*parts, "", *[f"- {note}" for note in legend(table, f"{ABOVE} / {BELOW}")], ""])


def legend(table: ReportTable, marks: str) -> list[str]:
    """How to read the table, one sentence or two per line."""
    spread = "95 % interval in brackets (Wilson's; of a mean, those of its benchmarks combined)"
    if table.seeds > 1:
        spread = "mean \N{PLUS-MINUS SIGN} standard deviation over seeds"
    notes = [
        f"Accuracy in %, {spread}; an answer that could not be parsed counts as wrong.",
        "Bold: the best merge of a column, underlined: the second best, controls and references aside.",
        *([MEANING] if any(line.seeds for line in table.lines) else []),
        *([f"{marks}: {_tested(table)}"] if table.comparisons else []),
    ]
    for family, group in groupby(table.columns, key=lambda column: column.family):
        names = [column.title for column in group if not column.is_mean]
        notes.append(f"{family_title(family)}: {', '.join(names)}.")
    notes += [table.power_note()] if table.detectable else []
    if table.quoted:
        notes.append(f"\N{DAGGER} {CAVEAT}: {'; '.join(sources())}. Other specialists and data than here.")
    if table.departures:
        differences = dict.fromkeys(text for texts in table.departures.values() for text in texts)
        text = "; ".join(differences)
        notes.append(f"\N{DOUBLE DAGGER} Not the questions of the published number, do not compare. {text}.")
    return notes


def _tested(table: ReportTable) -> str:
    """What the marks of a table mean."""
    if any(line.block == BLOCKS[MethodKind.ES] for line in table.lines):
        meaning = (
            "ES-Merging significantly above / below the best baseline merge of the column (base model or specialist "
            "where no other merge was run)"
        )
    else:
        meaning = "significantly above / below the best merge of the column"
    means = "in a mean each benchmark counts equally, " * any(column.is_mean for column in table.columns)
    test = f"paired exact test on the same examples, {means}p < 0.05 after Holm's correction over"
    count = f"the table's {table.comparisons} comparisons" if table.comparisons > 1 else "one comparison"
    return f"{meaning}: {test} {count}."


def number(score: Cell) -> str:
    """A cell's number without decoration, in percent."""
    if score.sd is not None:
        return f"{_percent(score.value)} \N{PLUS-MINUS SIGN} {_percent(score.sd)}"
    return _percent(score.value)


def interval(score: Cell) -> str:
    """`` [low, high]`` in percent; nothing where the spread over seeds is shown instead."""
    return "" if score.sd is not None else f" [{_percent(score.low)}, {_percent(score.high)}]"


def table_cells(table: ReportTable, line: Line, render: Callable[[TableEntry], str]) -> list[str]:
    """The cells of one row, published numbers in cells of their own."""
    texts = []
    for column, entry in zip(table.columns, line.entries, strict=True):
        texts.append(render(entry))
        if column.name in table.quoted:
            texts.append(NOTHING if entry.published is None else f"{entry.published:.1f}")
    return texts


def _entry_md(entry: TableEntry) -> str:
    if entry.cell is None:
        return NOTHING
    plain = number(entry.cell)
    shown_number = f"**{plain}**" if entry.best else f"<u>{plain}</u>" if entry.second else plain
    return shown_number + interval(entry.cell) + MARKS[entry.mark]


def _tops(sweep: SweepResults, column: Column) -> tuple[str, str]:
    """The two highest accuracies of merges as they are displayed; empty where there are none."""
    values = [score.value for row in _ranked(sweep, column) if (score := cell(sweep, row, column))]
    first, second, *_ = [*dict.fromkeys(_percent(value) for value in sorted(values, reverse=True)), "", ""]
    return first, second


def _ranked(sweep: SweepResults, column: Column) -> list[Row]:
    """The merges that compete for the best of a column."""
    return ranked_rows(sweep, sweep.of_kind(*MERGED), column.benchmarks)


def _mark(comparison: Comparison) -> int:
    if not comparison.significant:
        return 0
    return 1 if comparison.result.difference > 0 else -1


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _md(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")
