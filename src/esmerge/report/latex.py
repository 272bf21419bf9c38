"""The table as LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from esmerge.report.statistics import family_title
from esmerge.report.tables import NOTHING, ReportTable, TableEntry, interval, legend, number, table_cells

WIDEST = 12  # columns of numbers on a page
GREEK = re.compile(
    "GREEK SMALL LETTER (ALPHA|BETA|GAMMA|DELTA|EPSILON|ZETA|ETA|THETA|IOTA|KAPPA|LAMDA|MU|NU|XI|PI|RHO|SIGMA|TAU|"
    "UPSILON|PHI|CHI|PSI|OMEGA)|GREEK CAPITAL LETTER (GAMMA|DELTA|THETA|LAMDA|XI|PI|SIGMA|UPSILON|PHI|PSI|OMEGA)"
)
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    NOTHING: "--",
    "\N{EM DASH}": "---",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{INCREMENT}": r"$\Delta$",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": "$-$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{DAGGER}": r"$^{\dagger}$",
    "\N{DOUBLE DAGGER}": r"$^{\ddagger}$",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def latex(table: ReportTable) -> str:
    """The table in LaTeX, several by family where it is too wide; needs the packages booktabs and graphicx."""
    opening = [f"{table.title}."] if table.title else []
    notes = " ".join(_tex(note) for note in [*opening, *legend(table, "+ / -")])
    parts = _parts(table)
    captions = [notes, *[_tex(f"{' '.join(opening)} Further columns of the table above.") for _ in parts[1:]]]
    return "\n".join(_table(part, caption) for part, caption in zip(parts, captions, strict=True))


def _parts(table: ReportTable) -> list[ReportTable]:
    """The table, or tables of some of its columns that a page is wide enough for."""
    slices: list[list[int]] = [[]]
    for _, group in groupby(range(len(table.columns)), key=lambda index: table.columns[index].family):
        family = list(group)
        if slices[-1] and _width(table, slices[-1] + family) > WIDEST:
            slices.append([])
        for index in family:
            if slices[-1] and _width(table, [*slices[-1], index]) > WIDEST:
                slices.append([])
            slices[-1].append(index)
    return [_columns(table, indices) for indices in slices]


def _width(table: ReportTable, indices: Sequence[int]) -> int:
    return sum(2 if table.columns[index].name in table.quoted else 1 for index in indices)


def _columns(table: ReportTable, indices: Sequence[int]) -> ReportTable:
    lines = [replace(line, entries=tuple(line.entries[index] for index in indices)) for line in table.lines]
    return replace(table, columns=tuple(table.columns[index] for index in indices), lines=tuple(lines))


def _table(table: ReportTable, caption: str) -> str:
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
        rows = [[_tex(line.heading), *table_cells(table, line, _entry_tex)] for line in lines]
        body += [" & ".join(row).replace(NOTHING, "--") + r" \\" for row in rows]
    top = [
        "% needs \\usepackage{booktabs} and \\usepackage{graphicx}",
        r"\begin{table}",
        rf"\caption{{{caption}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
    ]
    return "\n".join([*top, *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def _entry_tex(entry: TableEntry) -> str:
    if entry.cell is None:
        return "--"
    plain = number(entry.cell).replace("\N{PLUS-MINUS SIGN}", r"$\pm$")
    bold = rf"\textbf{{{plain}}}" if entry.best else rf"\underline{{{plain}}}" if entry.second else plain
    small = rf" {{\scriptsize{interval(entry.cell)}}}" if interval(entry.cell) else ""
    return bold + small + {1: "$^{+}$", -1: "$^{-}$", 0: ""}[entry.mark]


def _tex(text: str) -> str:
    return "".join(SPECIAL.get(character) or _letter(character) for character in text)


def _letter(character: str) -> str:
    """A letter that pdfLaTeX knows without further packages: Greek ones by name, accents dropped, else ``?``."""
    if character.isascii():
        return character
    plain = unicodedata.normalize("NFKD", character)
    match = GREEK.fullmatch(unicodedata.name(plain[0], ""))
    if match:
        name = match[1].lower() if match[1] else match[2].capitalize()
        return f"$\\{name.replace('amda', 'ambda')}$"
    return plain.encode("ascii", "ignore").decode() or "?"
