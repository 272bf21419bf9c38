from __future__ import annotations

import os
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from tests.report.synthetic import add_run, fail_run

from esmerge.cli.report import main
from esmerge.core.errors import StoreError
from esmerge.evaluation.metrics import METRICS
from esmerge.report.build import Report, build_report
from esmerge.report.terminal import show


def test_a_report_names_every_file_it_wrote(one_seed: Path, report: Report) -> None:
    names = [str(path.relative_to(one_seed)) for path in report.paths]
    stems = ("methods", "layer_weights", "retention", "agreement", "calibration")
    figures = [f"figures/{name}.{form}" for name in stems for form in ("png", "svg")]
    tables = ["results.csv", "comparisons.csv", "table.md", "table.tex", "table.csv"]
    assert names == [*tables, "retention.csv", *figures, "report.html"]
    assert all(path.stat().st_size > 0 for path in report.paths)


def test_results_have_exactly_the_promised_columns(one_seed: Path, report: Report) -> None:
    head = (one_seed / "results.csv").read_text().splitlines()[0]
    axes = "run,specialists,method,granularity,probe,merge_space,seed"
    assert head == f"{axes},benchmark,metric,value,ci_low,ci_high,n"
    frame = pd.read_csv(one_seed / "results.csv")
    rates = frame.loc[frame["metric"] != "mcc", ["value", "ci_low", "ci_high"]].to_numpy()
    assert ((rates >= 0) & (rates <= 1)).all()
    assert frame["value"].between(-1, 1).all()
    assert len(frame) == 12 * 5 * len(METRICS)  # runs, benchmarks, metrics


def test_the_same_store_gives_the_same_report_anywhere(one_seed: Path, report: Report, tmp_path: Path) -> None:
    copy = shutil.copytree(one_seed, tmp_path / "copy")
    for name in ("results.csv", "comparisons.csv", "table.md", "table.tex"):
        (copy / name).unlink()
    build_report(copy)
    for name in ("results.csv", "comparisons.csv", "table.md", "table.tex"):
        assert (copy / name).read_text() == (one_seed / name).read_text()


def test_a_sweep_without_a_finished_run_still_has_a_report(tmp_path: Path) -> None:
    fail_run(tmp_path, "es", ValueError("no backbone"))
    report = build_report(tmp_path)
    assert "no backbone" in report.verdict and (tmp_path / "table.md").exists()


def test_what_could_not_be_compared_is_in_the_verdict(tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.5, n=20)
    add_run(tmp_path, "es", "es", 0.6, n=25)
    report = build_report(tmp_path)
    assert report.notes and report.notes[0] in report.verdict


ALONE = """
import sys
import esmerge.cli.report
from esmerge.report.build import build_report

def heavy():
    return [name for name in ("torch", "transformers", "peft") if name in sys.modules]

assert not heavy(), f"importing the report imports {heavy()}"
build_report(sys.argv[1])
assert not heavy(), f"building a report imports {heavy()}"
"""


def test_a_report_does_without_torch(one_seed: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(one_seed, tmp_path / "copy")
    process = subprocess.run([sys.executable, "-c", ALONE, str(copy)], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert (copy / "figures" / "layer_weights.png").exists()


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no sweep folder"):
        build_report(tmp_path / "nothing")


@pytest.mark.parametrize("folder", ["empty", "parent", "sweep/average"])
def test_a_folder_that_is_no_sweep_is_refused_and_left_as_it_was(folder: str, tmp_path: Path) -> None:
    add_run(tmp_path / "parent" / "sweep", "average", "average", 0.6, n=20)
    (tmp_path / "empty").mkdir()
    path = tmp_path / ("parent/" * folder.startswith("sweep") + folder)
    before = sorted(path.rglob("*"))
    with pytest.raises(StoreError, match="holds no run of a sweep: give the folder that holds the runs"):
        build_report(path)
    assert sorted(path.rglob("*")) == before


def test_the_screen_ends_with_the_verdict(report: Report) -> None:
    screen = Console(file=StringIO(), width=160)
    show(report.tables, report.paths, report.verdict, screen)
    output = screen.file.getvalue()
    assert "Task arithmetic (delta)" in output and "Cross-modal mean" in output
    assert all(str(path) in output for path in report.paths)
    assert output.index("Verdict") > max(output.index(str(path)) for path in report.paths)


def test_the_command_reports_the_newest_sweep_and_leaves_nothing_else(tmp_path: Path) -> None:
    for name in ("older", "newer"):
        add_run(tmp_path / "outputs" / name, "average", "average", 0.6, n=20)
    os.utime(tmp_path / "outputs" / "older" / "average" / "status.json", (1, 1))
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "COLUMNS": "160"}
    line = [sys.executable, "-m", "src.report"]
    process = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr
    assert "outputs/newer/table.md" in process.stdout and "Average is the best merge" in process.stdout
    assert not (tmp_path / "outputs" / "older" / "results.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_an_ascii_terminal_under_an_ascii_locale_shows_the_verdict(tmp_path: Path) -> None:
    add_run(tmp_path / "sweep[1]", "average", "average", 0.6, n=20)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    environment = {**os.environ, **ascii_only, "PYTHONPATH": f"{os.getcwd()}/src:{os.getcwd()}"}
    line = [sys.executable, "-m", "src.report", f'folder="{tmp_path}/sweep[1]"']
    process = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert process.returncode == 0, process.stderr
    assert "Average is the best merge" in process.stdout and "sweep[1]/table.md" in process.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["compare=A,B", "out=file"], "out=.*file cannot be written .*is no folder"),
        (["compare=A"], "expected two, compare=outputs/A,outputs/B, or 'compare=.*where a path has a comma"),
        (["wandb=sync", "folder=nowhere"], "there is no sweep folder .*nowhere"),
    ],
)
def test_mistaken_words_are_refused_by_name(
    overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("A", "B"):
        add_run(tmp_path / name, "average", "average", 0.6, n=20)
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", *overrides])
    with pytest.raises(SystemExit, match=message):
        main()


def test_the_command_says_what_to_do_when_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["report", f"outputs={tmp_path}"])
    with pytest.raises(SystemExit, match="error: no sweep was found .* run python -m src.sweep"):
        main()
