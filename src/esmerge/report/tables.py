"""The table over a sweep: methods down, benchmarks across, as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from esmerge.report.load import SweepResults
from esmerge.report.methods import BLOCKS, MERGED
from esmerge.report.published import CAVEAT, assign, published_title, read_published, shown, sources
from esmerge.report.statistics import Cell, Column, Comparison, cell, columns, family_title
from esmerge.storage.files import write_text

NOTHING = "\N{EN DASH}"
ABOVE, BELOW = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
MARKS = {1: f" {ABOVE}", -1: f" {BELOW}", 0: ""}


@dataclass(frozen=True)
class TableEntry:
    """What the table shows of one row in one column.

    Attributes:
        cell: our accuracy, if there is one.
        best: the highest of all merges in this column, as displayed.
        mark: +1 / -1 where significantly above / below the best baseline, else 0.
        published: the published accuracy in percent, if there is one.
    """

    cell: Cell | None = None
    best: bool = False
    mark: int = 0
    published: float | None = None


@dataclass(frozen=True)
class Line:
    """One row: its block, its title, and one entry per column."""

    block: str
    title: str
    entries: tuple[TableEntry, ...]


@dataclass(frozen=True)
class ReportTable:
    """Everything that the renderers need.

    Attributes:
        quoted: names of the columns that have published numbers beside them.
        departures: those of them that were asked on other questions than the published number -> what differs, for
            each benchmark of the column.
        title: what tells this table from another of the same sweep; empty if it is the only one.
    """

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    quoted: frozenset[str]
    seeds: int
    title: str = ""
    departures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def build_table(sweep: SweepResults, comparisons: Sequence[Comparison], title: str = "") -> ReportTable:
    """Lay the results of a sweep out; ``comparisons`` are those against the best baseline."""
    across = columns(sweep)
    names = [column.name for column in across]
    reported = {name: methods for name, methods in read_published().items() if name in names}
    taken, orphans = assign(sweep.rows, shown(names, reported))
    marks = {(comparison.row.key, comparison.column.name): _mark(comparison) for comparison in comparisons}
    tops = {column.name: _top(sweep, column) for column in across}
    lines = []
    for row in sweep.rows:
        entries = []
        for column in across:
            measured = cell(sweep, row, column)
            wins = row.kind in MERGED and measured is not None and _percent(measured.value) == tops[column.name]
            same = taken.get(row.key)
            quoted = reported.get(column.name, {}).get(same) if same else None
            entries.append(TableEntry(measured, wins, marks.get((row.key, column.name), 0), quoted))
        lines.append(Line(BLOCKS[row.kind], row.title, tuple(entries)))
    for method in orphans:
        entries = [TableEntry(published=reported.get(name, {}).get(method)) for name in names]
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
    return ReportTable(tuple(across), tuple(lines), frozenset(reported), seeds, title, departures)


def write_tables(sweep: SweepResults, *tables: ReportTable, appendix: Sequence[str] = ()) -> list[Path]:
    """Write ``table.md``, closed by the appendix, and ``table.tex`` into the sweep folder."""
    return [
        write_text(sweep.folder / "table.md", "\n".join([*map(markdown, tables), *appendix])),
        write_text(sweep.folder / "table.tex", "\n".join(map(latex, tables))),
    ]


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
            parts.append("| " + " | ".join([_md(line.title), *_cells(table, line, _entry_md)]) + " |")
    return "\n".join([*parts, "", *[f"- {note}" for note in legend(table, f"{ABOVE} / {BELOW}")], ""])


def latex(table: ReportTable) -> str:
    """The table in LaTeX; needs the packages booktabs and graphicx."""
    widths = [2 if column.name in table.quoted else 1 for column in table.columns]
    families, rules, at = [], [], 2
    for family, group in groupby(zip(table.columns, widths, strict=True), key=lambda pair: pair[0].family):
        width = sum(pair[1] for pair in group)
        families.append(rf"\multicolumn{{{width}}}{{c}}{{{_tex(family_title(family))}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    heads = ["Method"]
    for column in table.columns:
        marks = r"\dagger" + r"\ddagger" * (column.name in table.departures)
        heads += [_tex(column.title), *([f"publ.$^{{{marks}}}$"] if column.name in table.quoted else [])]
    body = [" & ".join(["", *families]) + r" \\", "".join(rules), " & ".join(heads) + r" \\"]
    for block, lines in groupby(table.lines, key=lambda line: line.block):
        body += [r"\midrule", rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{_tex(block)}}}}} \\"]
        rows = [[_tex(line.title), *_cells(table, line, _entry_tex)] for line in lines]
        body += [" & ".join(row).replace(NOTHING, "--") + r" \\" for row in rows]
    opening = [f"{table.title}."] if table.title else []
    notes = " ".join(_tex(note) for note in [*opening, *legend(table, "+ / -")])
    top = [
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
        r"\begin{table}",
        rf"\caption{{{notes}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
    ]
    return "\n".join([*top, *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def legend(table: ReportTable, marks: str) -> list[str]:
    """How to read the table, one sentence or two per line."""
    spread = "95 % bootstrap interval in brackets"
    if table.seeds > 1:
        spread = "mean \N{PLUS-MINUS SIGN} standard deviation over seeds"
    notes = [
        f"Accuracy in %, {spread}; an answer that could not be parsed counts as wrong.",
        "Bold: the best merge of a column, controls and references aside.",
        f"{marks}: ES-Merging significantly above / below the best baseline merge of the column (base model or "
        "specialist where no other merge was run): paired exact test on the same examples, p < 0.05 after Holm's "
        "correction over the table.",
    ]
    for family, group in groupby(table.columns, key=lambda column: column.family):
        names = [column.title for column in group if not column.is_mean]
        notes.append(f"{family_title(family)}: {', '.join(names)}.")
    if table.quoted:
        notes.append(f"\N{DAGGER} {CAVEAT}: {'; '.join(sources())}. Other specialists and data than here.")
    if table.departures:
        differences = dict.fromkeys(text for texts in table.departures.values() for text in texts)
        text = "; ".join(differences)
        notes.append(f"\N{DOUBLE DAGGER} Not the questions of the published number, do not compare. {text}.")
    return notes


def number(score: Cell) -> str:
    """A cell's number without decoration, in percent."""
    if score.sd is not None:
        return f"{_percent(score.value)} \N{PLUS-MINUS SIGN} {_percent(score.sd)}"
    return _percent(score.value)


def interval(score: Cell) -> str:
    """`` [low, high]`` in percent; nothing where the spread over seeds is shown instead."""
    return "" if score.sd is not None else f" [{_percent(score.low)}, {_percent(score.high)}]"


def _cells(table: ReportTable, line: Line, render: Callable[[TableEntry], str]) -> list[str]:
    texts = []
    for column, entry in zip(table.columns, line.entries, strict=True):
        texts.append(render(entry))
        if column.name in table.quoted:
            texts.append(NOTHING if entry.published is None else f"{entry.published:.1f}")
    return texts


def _entry_md(entry: TableEntry) -> str:
    if entry.cell is None:
        return NOTHING
    shown_number = f"**{number(entry.cell)}**" if entry.best else number(entry.cell)
    return shown_number + interval(entry.cell) + MARKS[entry.mark]


def _entry_tex(entry: TableEntry) -> str:
    if entry.cell is None:
        return "--"
    plain = number(entry.cell).replace("\N{PLUS-MINUS SIGN}", r"$\pm$")
    bold = rf"\textbf{{{plain}}}" if entry.best else plain
    small = rf" {{\scriptsize{interval(entry.cell)}}}" if interval(entry.cell) else ""
    return bold + small + {1: "$^{+}$", -1: "$^{-}$", 0: ""}[entry.mark]


def _top(sweep: SweepResults, column: Column) -> str:
    values = [score.value for row in sweep.of_kind(*MERGED) if (score := cell(sweep, row, column))]
    return _percent(max(values)) if values else ""


def _mark(comparison: Comparison) -> int:
    if not comparison.significant:
        return 0
    return 1 if comparison.result.difference > 0 else -1


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _md(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", NOTHING: "--"}
    special |= {"<": "$<$", ">": "$>$", "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{DAGGER}": r"$^{\dagger}$"}
    special |= {"\N{DOUBLE DAGGER}": r"$^{\ddagger}$"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)
