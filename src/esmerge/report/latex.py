"""The table as LaTeX."""

from __future__ import annotations

from itertools import groupby

from esmerge.report.statistics import family_title
from esmerge.report.tables import NOTHING, ReportTable, TableEntry, interval, legend, number, table_cells


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
        rows = [[_tex(line.title), *table_cells(table, line, _entry_tex)] for line in lines]
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


def _entry_tex(entry: TableEntry) -> str:
    if entry.cell is None:
        return "--"
    plain = number(entry.cell).replace("\N{PLUS-MINUS SIGN}", r"$\pm$")
    bold = rf"\textbf{{{plain}}}" if entry.best else rf"\underline{{{plain}}}" if entry.second else plain
    small = rf" {{\scriptsize{interval(entry.cell)}}}" if interval(entry.cell) else ""
    return bold + small + {1: "$^{+}$", -1: "$^{-}$", 0: ""}[entry.mark]


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", NOTHING: "--"}
    special |= {"<": "$<$", ">": "$>$", "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{DAGGER}": r"$^{\dagger}$"}
    special |= {"\N{DOUBLE DAGGER}": r"$^{\ddagger}$"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)
