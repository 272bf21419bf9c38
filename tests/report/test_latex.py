"""The table in LaTeX: what a compiler needs, and a compiler where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.report.synthetic import add_run

from esmerge.report.latex import WIDEST, latex
from esmerge.report.load import load_sweep
from esmerge.report.statistics import against_baseline
from esmerge.report.tables import ReportTable, build_table

PROGRAM = shutil.which("pdflatex")
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
\input{table}
\end{document}
"""
TITLES = {
    "bindingdb": "BindingDB",
    "human": "Human_β (50 % of #1 & {rest})",
    "biosnap": "BioSNAP ~ 10^3 \\ <x> µM é → ∆",
    **{f"more{index}": f"More “{index}” $ΔG$" for index in range(9)},
    **{f"kept{index}": f"Kept | {index}" for index in range(5)},
}


def wide_table(folder: Path, seeds: int = 1) -> ReportTable:
    """17 benchmarks of two families, three of which have published numbers."""
    suite = {name: (title, "retention" if name.startswith("kept") else "cross_modal") for name, title in TITLES.items()}
    for seed in range(seeds):
        for method, axes in {
            "base": {}, "average": {"merge_space": "factors"}, "ties": {"merge_space": "delta"},
            "es": {"granularity": "joint", "merge_space": "factors"},
        }.items():  # fmt: skip
            add_run(folder, f"{method}{seed}", method, 0.6, n=20, seed=seed, suite=suite, **axes)
    sweep = load_sweep(folder)
    return build_table(sweep, against_baseline(sweep)[0], "A 100 % title_")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ReportTable:
    return wide_table(tmp_path_factory.mktemp("wide"), seeds=2)


def test_a_wide_table_is_several_and_no_column_is_lost(table: ReportTable) -> None:
    text = latex(table)
    bodies = re.findall(r"\\toprule(.*?)\\midrule", text, flags=re.DOTALL)
    widths = [len(columns) for columns in re.findall(r"\\begin{tabular}{l(r+)}", text)]
    assert len(widths) > 1 and max(widths) <= WIDEST
    assert sum(widths) == len(table.columns) + len(table.quoted)
    assert sum(body.count("Method &") for body in bodies) == len(widths)
    assert text.count("mean $\\pm$ standard deviation over seeds") == 1  # how to read it stands once
    assert text.count("Further columns of the table above") == len(widths) - 1


def test_every_letter_is_one_that_pdflatex_knows(table: ReportTable) -> None:
    text = latex(table)
    assert text.isascii()
    for snippet in (r"Human\_$\beta$ (50 \% of \#1 \& \{rest\})", r"$\mu$M e $\rightarrow$", r"\$$\Delta$G\$"):
        assert snippet in text


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="pdflatex is absent: Debian has it in texlive-latex-base")
def test_the_table_compiles_with_booktabs_and_graphicx_alone(table: ReportTable, tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(latex(table), encoding="utf-8")
    (tmp_path / "document.tex").write_text(DOCUMENT, encoding="utf-8")
    line = [str(PROGRAM), "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    process = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250)
    assert process.returncode == 0, process.stdout[-2000:]
    assert (tmp_path / "document.pdf").stat().st_size > 10_000
