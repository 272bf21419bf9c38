"""Figures that other processes draw are those that this one would have drawn."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from joblib import Parallel, delayed
from matplotlib.figure import Figure

from esmerge.report import build, drawing
from esmerge.report.drawing import MANY_RUNS, Drawers, OtherProcesses, Sketch, ThisProcess, drawers
from esmerge.report.load import load_sweep
from esmerge.report.plots.methods import methods_figure
from esmerge.report.tidy.accuracies import methods_table


def failing_figure(table: pd.DataFrame) -> Figure:
    raise ValueError(f"a table of {len(table)} rows cannot be drawn")


def process_number(table: None) -> Figure:
    raise ValueError(os.getpid())


def nothing() -> None:
    """What another process does first."""


@pytest.mark.parametrize(
    ("runs", "cores", "expected"),
    [(MANY_RUNS, 2, OtherProcesses), (MANY_RUNS, 1, ThisProcess), (MANY_RUNS - 1, 2, ThisProcess)],
)
def test_many_runs_on_several_cores_are_drawn_beside(
    runs: int, cores: int, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "cpu_count", lambda: cores)
    with drawers(runs, nothing) as place:
        assert type(place) is expected


def test_other_processes_write_the_same_bytes(one_seed: Path, tmp_path: Path) -> None:
    table = methods_table(load_sweep(one_seed))
    paths: dict[str, list[Path]] = {}
    places: dict[str, Drawers] = {"here": ThisProcess(), "beside": OtherProcesses(1, nothing)}
    for name, place in places.items():
        sketches = [Sketch(methods_figure, table, tmp_path / name / f"methods{number}") for number in range(3)]
        drawings = [place.begin(sketch) for sketch in sketches]
        paths[name] = [path for figure in drawings for path in figure.paths()]
    names = [f"methods{number}.{form}" for number in range(3) for form in ("png", "svg")]
    assert [path.name for path in paths["here"]] == [path.name for path in paths["beside"]] == names
    for here, beside in zip(*paths.values(), strict=True):
        assert here.read_bytes() == beside.read_bytes()


def test_a_report_whose_figures_are_drawn_beside_is_the_same(one_seed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for fewest in (MANY_RUNS, 1):
        monkeypatch.setattr(drawing, "MANY_RUNS", fewest)
        monkeypatch.setattr(drawing, "cpu_count", lambda: 2)
        report = build.build_report(one_seed)
        written.append({path: path.read_bytes() for path in report.paths})
    assert any(path.suffix == ".svg" for path in written[0]) and written[0] == written[1]


@pytest.mark.parametrize("place", [ThisProcess, lambda: OtherProcesses(1, nothing)])
def test_a_figure_that_fails_fails_the_report(place: Callable[[], Drawers], tmp_path: Path) -> None:
    figure = place().begin(Sketch(failing_figure, pd.DataFrame({"a": [1, 2]}), tmp_path / "figure"))
    with pytest.raises(ValueError, match="a table of 2 rows cannot be drawn"):
        figure.paths()


def test_what_draws_and_what_joblib_runs_are_apart(one_seed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MANY_RUNS", 1)
    monkeypatch.setattr(drawing, "cpu_count", lambda: 2)
    workers = set()
    for _ in range(2):  # joblib's processes after a report, and a report after joblib's processes
        assert build.build_report(one_seed).paths
        workers |= set(Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(20)))
    assert os.getpid() not in workers and len(workers) <= 2  # the second time, those of the first


@pytest.mark.parametrize("failed", [False, True])
def test_processes_end_with_the_report(failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "cpu_count", lambda: 2)
    with suppress(KeyboardInterrupt), drawers(MANY_RUNS, nothing) as place:
        with pytest.raises(ValueError, match=r"^\d+$") as told:
            place.begin(Sketch(process_number, None, tmp_path / "figure")).paths()
        if failed:
            raise KeyboardInterrupt
    assert int(str(told.value)) != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(told.value)), 0)
