"""What methods keep of the specialists' knowledge."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.synthetic import add_run

from esmerge.report.load import load_sweep
from esmerge.report.retention import retention_lines, retention_table
from esmerge.report.statistics import against_baseline
from esmerge.report.tables import build_table

SUITE = {"x": ("X", "cross_modal"), "molecule_class": ("Molecule class", "retention"), "cell": ("Cell", "retention")}
RATES = {
    "base": {"x": 0.5, "molecule_class": 0.5, "cell": 0.6},
    "expert:molecule": {"x": 0.5, "molecule_class": 0.8, "cell": 0.3},
    "expert:cell": {"x": 0.5, "molecule_class": 0.4, "cell": 0.9},
    "finetuned": {"x": 0.9, "molecule_class": 1.0, "cell": 1.0},
    "average": {"x": 0.6, "molecule_class": 0.6, "cell": 0.9},
    "majority": {"x": 0.5, "molecule_class": 0.5, "cell": 0.5},
}


def test_shares_are_of_the_best_single_model_of_each_benchmark(tmp_path: Path) -> None:
    for method, rates in RATES.items():
        add_run(tmp_path, method.replace(":", "_"), method, rates, n=100, suite=SUITE, key=method)
    sweep = load_sweep(tmp_path)
    table = retention_table(sweep.parts())
    average = table[table["method"] == "Average"].set_index("benchmark")
    expected = {"molecule_class": 0.6 / 0.8, "cell": 0.9 / 0.9, "retention_mean": 0.75 / 0.65}
    assert average["kept"].to_dict() == pytest.approx(expected)
    assert average["best_single"].to_dict()["cell"] == "Cell specialist"  # a fine-tuned model is no specialist
    assert set(table["method"]) == {"Base model", "Molecule specialist", "Cell specialist", "Fine-tuned", "Average"}
    lines = retention_lines(table, [build_table(sweep, against_baseline(sweep)[0])])
    assert "| Average | 75.0 | 100.0 | 115.4 |" in lines
    assert any("Smallest difference that could have been shown" in line and "Molecule class" in line for line in lines)


def test_a_sweep_without_retention_has_no_such_table(tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.6, n=20, suite={"x": ("X", "cross_modal")})
    table = retention_table(load_sweep(tmp_path).parts())
    assert table.empty and retention_lines(table, []) == []
