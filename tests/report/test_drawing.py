"""Figures that other processes draw are those that this one would have drawn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from esmerge.report import drawing
from esmerge.report.drawing import MANY_ROWS, Sketch, begin_drawing
from esmerge.report.load import load_sweep
from esmerge.report.plots.methods import methods_figure
from esmerge.report.tidy.accuracies import methods_table


def failing_figure(table: pd.DataFrame) -> Figure:
    raise ValueError(f"a table of {len(table)} rows cannot be drawn")


def test_other_processes_write_the_same_bytes(one_seed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = methods_table(load_sweep(one_seed))
    monkeypatch.setattr(drawing, "cpu_count", lambda: 2)
    paths = {}
    for name, rows in (("here", MANY_ROWS - 1), ("beside", MANY_ROWS)):
        sketches = [Sketch(methods_figure, table, tmp_path / name / f"methods{number}") for number in range(3)]
        paths[name] = begin_drawing(sketches, rows).paths()
    names = [f"methods{number}.{form}" for number in range(3) for form in ("png", "svg")]
    assert [path.name for path in paths["here"]] == [path.name for path in paths["beside"]] == names
    for here, beside in zip(*paths.values(), strict=True):
        assert here.read_bytes() == beside.read_bytes()


@pytest.mark.parametrize("rows", [1, MANY_ROWS])
def test_a_figure_that_fails_fails_the_report(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "cpu_count", lambda: 2)
    with pytest.raises(ValueError, match="a table of 2 rows cannot be drawn"):
        begin_drawing([Sketch(failing_figure, pd.DataFrame({"a": [1, 2]}), tmp_path / "figure")], rows).paths()
