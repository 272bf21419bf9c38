"""Rows whose means are over other seeds: shown, marked, and neither ranked nor tested."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.report.synthetic import SUITE, add_run, fail_run

from esmerge.report.build import Report, build_report
from esmerge.report.load import load_sweep
from esmerge.report.seeds import full_seeds, ranked_rows, seed_notes
from esmerge.report.statistics import against_baseline, best_row, columns
from esmerge.report.tidy.accuracies import best_rows, cost_points, methods_table, retention_table

TWO = {name: SUITE[name] for name in ("drug_protein", "molecule_class")}
RATES = {"base": (0.5, 0.5, 0.5), "average": (0.6, 0.6, 0.9), "task_arithmetic": (0.5, 0.5, 0.8), "ties": (0.95, 0.95)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TIES is best on both seeds that it has; its third, on which all others do well, failed."""
    path = tmp_path_factory.mktemp("seeds") / "sweep"
    for method, rates in RATES.items():
        for seed, rate in enumerate(rates):
            run = add_run(path, f"{method}_{seed}", method, rate, n=100, seed=seed, suite=TWO)
            if method != "base":
                costs = {"seconds": 1.0, "memory": None}
                run.write_costs({"measuring": costs, "merging": costs})
    fail_run(path, "ties_2", RuntimeError("killed"))
    return path


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return build_report(folder)


def test_the_table_says_how_many_seeds_and_ranks_the_others(report: Report, folder: Path) -> None:
    text = (folder / "table.md").read_text()
    ties = next(line for line in text.splitlines() if line.startswith("| TIES"))
    assert ties.startswith("| TIES, 2 of 3 seeds | 95.0") and "**" not in ties
    assert "| Average | **70.0" in text and "| Task arithmetic | <u>60.0" in text
    assert "neither ranked nor tested" in text and r"TIES, 2 of 3 seeds" in (folder / "table.tex").read_text()
    table = pd.read_csv(folder / "table.csv").query("column == 'drug_protein'").set_index("method")
    assert table.loc["TIES", "seeds"] == 2 and pd.isna(table.loc["TIES", "place"])
    assert "TIES, 2 of 3 seeds" in (folder / "report.html").read_text()


def test_the_verdict_names_the_row_and_why(report: Report) -> None:
    assert "Average is the best merge with 70.0 %" in report.verdict
    assert "Not ranked, for lack of seeds that other rows have: TIES (2 of 3 seeds)." in report.verdict
    assert "ties_2 (failed: RuntimeError: killed)" in report.verdict


def test_nothing_is_tested_against_it(report: Report, folder: Path) -> None:
    pairs = pd.read_csv(folder / "comparisons.csv")[["method", "against"]].drop_duplicates()
    assert list(pairs.itertuples(index=False, name=None)) == [("Task arithmetic", "Average")]
    assert report.notes == ()


def test_what_it_keeps_is_left_empty(report: Report, folder: Path) -> None:
    kept = pd.read_csv(folder / "retention.csv").set_index("method")["kept"]
    assert pd.isna(kept["TIES"]) and kept["Average"] == pytest.approx(0.7 / 0.5)


def test_figures_mark_it_or_leave_it_out(report: Report, folder: Path) -> None:
    sweep = load_sweep(folder)
    assert "TIES, 2 of 3 seeds" in set(methods_table(sweep)["title"])
    assert "TIES" not in set(retention_table(sweep)["title"]) | set(cost_points(sweep)["title"])
    assert (folder / "table.md").read_text().count("Without TIES (2 of 3 seeds).") == 2
    assert [row.method for row in best_rows(sweep, sweep.rows, 2)] == ["average", "task_arithmetic"]


def test_as_many_other_seeds_are_no_better(tmp_path: Path) -> None:
    for method, seeds in {"average": (0, 1), "task_arithmetic": (0, 1), "ties": (1, 2)}.items():
        for seed in seeds:
            add_run(tmp_path, f"{method}_{seed}", method, 0.6 + 0.1 * seed, n=20, seed=seed, suite=TWO)
    sweep = load_sweep(tmp_path)
    assert full_seeds(sweep, ["drug_protein"]) == {"0", "1"}
    assert list(seed_notes(sweep).values()) == ["seeds 1, 2"]
    best = best_row(sweep, sweep.rows, columns(sweep)[0])
    assert best is not None and best.method == "average"
    assert {comparison.row.method for comparison in against_baseline(sweep)[0]} == {"task_arithmetic"}


def test_a_benchmark_that_fewer_seeds_were_asked_is_ranked_by_itself(tmp_path: Path) -> None:
    """The suites of two commands in one folder: three seeds of the first, one of the second."""
    for seed in (0, 1, 2):
        add_run(tmp_path, f"average_{seed}", "average", 0.6, n=20, seed=seed, suite={"x": ("X", "cross_modal")})
    for method in ("ties", "task_arithmetic"):
        add_run(tmp_path, method, method, 0.7, n=20, suite={"y": ("Y", "cross_modal")})
    sweep = load_sweep(tmp_path)
    assert seed_notes(sweep) == {} and len(ranked_rows(sweep, sweep.rows, ["y"])) == 2


def test_a_seed_that_was_run_twice_makes_two_rows(tmp_path: Path) -> None:
    for name in ("average_a", "average_b"):
        add_run(tmp_path, name, "average", 0.6, n=20, suite=TWO)
    add_run(tmp_path, "ties", "ties", 0.7, n=20, suite=TWO)
    sweep = load_sweep(tmp_path)
    assert [len(row.runs) for row in sweep.rows] == [1, 1, 1] and seed_notes(sweep) == {}
