"""Specialists of two families in one sweep: nothing is ranked or tested across what was asked of different worlds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.report.synthetic import add_run

from esmerge.core.errors import InputError
from esmerge.report.build import Report, build_report
from esmerge.report.load import load_sweep
from esmerge.report.page.questions import question_browser
from esmerge.report.statistics import columns, compare
from esmerge.report.tidy.accuracies import sensitivity_table

SUITE = {"drug_protein": ("Drug–protein", "cross_modal"), "cell_lineage": ("Cell lineage", "retention")}
RATES = {"textbook": {"base": 0.5, "average": 0.6, "es": 0.7}, "strong": {"base": 0.5, "average": 0.9, "es": 0.8}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worlds") / "sweep"
    for specialists, rates in RATES.items():
        for method, rate in rates.items():
            add_run(
                path, f"{specialists}_{method}", method, rate, n=100, suite=SUITE, key=specialists,
                specialists=specialists, terms={"checksum": specialists},
                config={"specialists": {"name": specialists}, "method": {"scale": float(len(specialists))}},
            )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return build_report(folder)


def test_each_world_has_its_table_and_its_best(report: Report, folder: Path) -> None:
    assert [table.title for table in report.tables] == ["strong", "textbook"]
    table = pd.read_csv(folder / "table.csv")
    best = table[(table["place"] == "best") & (table["column"] == "drug_protein")].set_index("table")["method"]
    assert best.to_dict() == {"strong": "Average (strong)", "textbook": "ES-Merging (textbook)"}
    assert all(specialists in method for specialists, method in zip(table["table"], table["method"], strict=True))


def test_only_rows_of_one_world_are_tested_against_each_other(report: Report, folder: Path) -> None:
    pairs = pd.read_csv(folder / "comparisons.csv")[["method", "against"]].drop_duplicates()
    assert sorted(pairs.itertuples(index=False, name=None)) == [
        ("ES-Merging (strong)", "Average (strong)"),
        ("ES-Merging (textbook)", "Average (textbook)"),
    ]
    assert report.verdict.startswith("strong: Cross-modal") and " textbook: Cross-modal" in report.verdict


def test_a_pair_of_two_worlds_is_refused_although_ids_and_labels_agree(folder: Path) -> None:
    sweep = load_sweep(folder)
    first, second = (row for row in sweep.rows if row.method == "average")
    with pytest.raises(InputError, match="drug_protein under seed 0 were made of different tables"):
        compare(sweep, first, second, columns(sweep)[0])


def test_figures_are_of_one_world_each(report: Report, folder: Path) -> None:
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert {"methods-strong", "methods-textbook", "agreement-strong"} <= names and "methods" not in names
    assert "strong: Accuracy of every method" in (folder / "table.md").read_text()


def test_figures_of_one_world_do_not_repeat_its_name(folder: Path) -> None:
    sweep = load_sweep(folder)
    titles = [row.title for row in sweep.worlds()["strong"].with_titles_in_world().rows]
    assert titles == ["Base model", "Average", "ES-Merging"]
    assert "Average (strong)" in {row.title for row in sweep.rows}  # tables that hold both worlds tell them apart


def test_a_setting_that_differs_between_worlds_was_not_varied(folder: Path) -> None:
    for part in load_sweep(folder).worlds().values():
        assert sensitivity_table(part).empty


def test_the_page_keeps_the_questions_of_worlds_apart(folder: Path) -> None:
    browser = question_browser(load_sweep(folder))
    assert browser is not None
    benchmarks: list[dict[str, object]] = browser.data["benchmarks"]  # type: ignore[assignment]
    assert [benchmark["title"] for benchmark in benchmarks][0] == "Drug–protein (strong)" and len(benchmarks) == 4
    titles = [method["title"] for method in browser.data["methods"]]  # type: ignore[attr-defined]
    methods = {titles[index] for index in benchmarks[0]["questions"][0]["m"]}  # type: ignore[index]
    assert methods == {"Base model (strong)", "Average (strong)", "ES-Merging (strong)"}


def test_questions_of_another_split_are_another_world(tmp_path: Path) -> None:
    for split, rate in {"random": 0.9, "cold_drug": 0.6}.items():
        for method in ("average", "es"):
            config = {"benchmark": {"split": split}}
            add_run(tmp_path, f"{method}_{split}", method, rate, n=50, suite=SUITE, config=config)
    parts = load_sweep(tmp_path).parts()
    assert list(parts) == ["benchmark.split=cold_drug", "benchmark.split=random"]
    assert all(len(part.rows) == 2 for part in parts.values())
