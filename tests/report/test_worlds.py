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


def sweep_over(folder: Path, *configs: dict[str, object], suite: dict[str, tuple[str, str]] = SUITE) -> list[str]:
    """The titles of the tables of a sweep that ran two merges with each of some settings."""
    for number, config in enumerate(configs):
        for method in ("average", "ties"):
            add_run(folder, f"{method}_{number}", method, 0.5 + 0.1 * number, n=20, suite=suite, config=config)
    return list(load_sweep(folder).parts())


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("seen", (None, "lists")),
        ("identity", (None, "parent")),
        ("threshold", (0.5, 1.25)),
        ("test_share", (0.1, 0.2)),
        ("validation_share", (0.1, 0.2)),
        ("protein_window", (None, 100)),
        ("table", ("a.csv", "b.csv")),
        ("label_values", (["0", "1"], ["1", "0"])),
        ("replicates", (None, "mean")),
        ("genes", (20, 50)),
        ("setting_of_a_package", (1, 2)),
    ],
)
def test_a_setting_that_changes_the_questions_makes_worlds(
    tmp_path: Path, key: str, values: tuple[object, ...]
) -> None:
    titles = sweep_over(tmp_path, *[{"benchmark": {key: value}} for value in values])
    assert titles == sorted(f"benchmark.{key}={value}" for value in values)


def test_nothing_is_ranked_or_tested_across_a_setting(tmp_path: Path) -> None:
    sweep_over(tmp_path, {"benchmark": {"seen": None}}, {"benchmark": {"seen": "lists"}})
    report = build_report(tmp_path)
    bold = [line for line in (tmp_path / "table.md").read_text().splitlines() if "**" in line and "Average" in line]
    assert len(bold) == 2 and len(report.tables) == 2  # the equal merges of either world are its best
    pairs = pd.read_csv(tmp_path / "comparisons.csv")[["method", "against"]]
    assert all(str(a).split("(")[-1] == str(b).split("(")[-1] for a, b in pairs.itertuples(index=False, name=None))


@pytest.mark.parametrize("key", ["shots", "shot_choice", "perceive", "training", "train_limit", "validation_limit"])
def test_a_setting_that_leaves_the_questions_makes_rows_of_one_world(tmp_path: Path, key: str) -> None:
    assert sweep_over(tmp_path, {"benchmark": {key: "1"}}, {"benchmark": {key: "2"}}) == [""]


def test_a_nested_setting_and_the_sweeps_split_make_worlds(tmp_path: Path) -> None:
    columns = sweep_over(tmp_path / "a", *[{"benchmark": {"columns": {"label": name}}} for name in ("y", "z")])
    assert columns == ["benchmark.columns.label=y", "benchmark.columns.label=z"]
    assert sweep_over(tmp_path / "b", {}, {"split": "validation"}) == ["split=test", "split=validation"]
    worlds = [{"specialists": {"world": {"questions": number}}} for number in (500, 1000)]
    titles = ["specialists.world.questions=1000", "specialists.world.questions=500"]
    assert sweep_over(tmp_path / "c", *worlds) == titles
    prompts = [{"benchmark": {"prompt": {"english": text}}} for text in ("Does it?", "Is it?")]
    assert sweep_over(tmp_path / "d", *prompts) == [""]


def test_a_limit_of_validation_matters_where_it_is_asked(tmp_path: Path) -> None:
    configs = [{"split": "validation", "benchmark": {"validation_limit": limit}} for limit in (100, 500)]
    assert len(sweep_over(tmp_path, *configs)) == 2


def test_different_benchmarks_differ_without_being_worlds(tmp_path: Path) -> None:
    """One table, in which each has a column of its own."""
    for name in ("human", "biosnap"):
        config = {"benchmark": {"source": "interactions", "table": f"{name}.csv", "split": name}}
        add_run(tmp_path, name, "average", 0.6, n=20, suite={name: (name, "cross_modal")}, config=config)
    assert list(load_sweep(tmp_path).parts()) == [""]


def test_a_suite_and_one_of_its_benchmarks_alone_are_told_apart(tmp_path: Path) -> None:
    whole = {"source": "interactions", "table": "t.csv", "columns": {"label": "y"}, "limit": None}
    suite = {"drug_protein": SUITE["drug_protein"]}
    titles = sweep_over(tmp_path, {"benchmark": {"limit": None}}, {"benchmark": whole}, suite=suite)
    assert titles == ["benchmark=drug_protein", "suite"]


def test_titles_in_a_world_do_not_repeat_its_settings(tmp_path: Path) -> None:
    sweep_over(tmp_path, {"benchmark": {"seen": None}}, {"benchmark": {"seen": "lists"}})
    sweep = load_sweep(tmp_path)
    assert {row.title_in_world for row in sweep.rows} == {"Average", "TIES"}
    assert "Average (benchmark.seen=lists)" in {row.title for row in sweep.rows}


def test_a_long_heading_still_names_files(tmp_path: Path) -> None:
    folder = "/".join(["a_long_name_of_a_folder"] * 15)
    sweep_over(tmp_path, {"benchmark": {"seen": folder}}, {"benchmark": {"seen": folder + "2"}})
    names = [path.name for path in build_report(tmp_path).paths if path.stem.startswith("methods-")]
    assert len(set(names)) == 4 and all(len(name) < 255 for name in names)
