from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from tests.report.synthetic import SUITE, add_run

from esmerge.core.errors import InputError
from esmerge.core.methods import MethodKind
from esmerge.report.load import load_sweep
from esmerge.report.statistics import against_baseline, best_baseline, best_row, cell, columns, compare, headline

PAPER = {name: (name, "cross_modal") for name in ("bindingdb", "human", "biosnap", "gdsc2", "drugcomb")}


def test_each_family_is_closed_by_its_mean(one_seed: Path) -> None:
    names = [column.name for column in columns(load_sweep(one_seed))]
    cross, retention = ["drug_protein", "drug_cell", "cross_modal_mean"], ["molecule_class", "cell_lineage"]
    assert names == [*cross, "drug_drug", *retention, "retention_mean"]
    assert [column.name for column in headline(load_sweep(one_seed))] == [
        "cross_modal_mean",
        "drug_drug",
        "retention_mean",
    ]


def test_published_means_appear_where_all_their_parts_are(tmp_path: Path) -> None:
    add_run(tmp_path / "all", "base", "base", 0.5, n=20, suite=PAPER)
    names = [column.name for column in columns(load_sweep(tmp_path / "all"))]
    assert names[-3:] == ["cross_modal_mean", "molecule_protein_mean", "molecule_cell_mean"]
    add_run(tmp_path / "some", "base", "base", 0.5, n=20, suite={"human": ("Human", "cross_modal")})
    assert [column.name for column in columns(load_sweep(tmp_path / "some"))] == ["human"]


def test_a_family_may_be_called_as_a_published_mean(tmp_path: Path) -> None:
    suite = {"a": ("A", "molecule_protein"), "b": ("B", "molecule_protein")}
    add_run(tmp_path, "base", "base", 0.5, n=20, suite=suite)
    (column,) = headline(load_sweep(tmp_path))
    assert column.name == "molecule_protein_mean" and column.benchmarks == ("a", "b")


def test_a_mean_is_plain_over_benchmarks_with_an_interval_of_its_parts(tmp_path: Path) -> None:
    rates = {"drug_protein": 0.5, "drug_cell": 0.9, "drug_drug": 1.0, "molecule_class": 1.0, "cell_lineage": 1.0}
    add_run(tmp_path, "base", "base", rates, n=400)
    sweep = load_sweep(tmp_path)
    mean, _, all_right = (cell(sweep, sweep.rows[0], column) for column in headline(sweep))
    assert mean is not None and mean.value == pytest.approx(0.7) and mean.sd is None
    half = 1.96 * np.sqrt(0.5 * 0.5 / 400 + 0.9 * 0.1 / 400) / 2
    assert (mean.low, mean.high) == pytest.approx((0.7 - half, 0.7 + half), abs=0.003)
    assert all_right is not None and all_right.low < 0.995 < all_right.high == 1.0


def test_seeds_do_not_narrow_an_interval_over_questions(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        add_run(tmp_path, f"base_{seed}", "base", 0.9, seed=seed, n=100)
    sweep = load_sweep(tmp_path)
    accuracy = cell(sweep, sweep.rows[0], columns(sweep)[0])
    theirs = binomtest(90, 100).proportion_ci(method="wilson")
    assert accuracy is not None and (accuracy.low, accuracy.high) == pytest.approx((theirs.low, theirs.high))


def test_a_single_benchmark_keeps_the_stored_interval(one_seed: Path) -> None:
    sweep = load_sweep(one_seed)
    accuracy, expected = cell(sweep, sweep.rows[0], columns(sweep)[0]), sweep.accuracy("majority_0", "drug_protein")
    assert accuracy is not None and expected is not None
    assert (accuracy.value, accuracy.low, accuracy.high) == (expected.value, expected.low, expected.high)


def test_seeds_give_mean_and_sample_deviation(tmp_path: Path) -> None:
    for seed, rate in enumerate((0.5, 0.6, 0.85)):
        add_run(tmp_path, f"base_{seed}", "base", rate, seed=seed, n=100)
    sweep = load_sweep(tmp_path)
    accuracy = cell(sweep, sweep.rows[0], columns(sweep)[0])
    assert accuracy is not None
    assert (accuracy.value, accuracy.sd, accuracy.seeds) == pytest.approx((0.65, np.std([0.5, 0.6, 0.85], ddof=1), 3))


def test_an_incomplete_mean_is_no_mean(tmp_path: Path) -> None:
    add_run(tmp_path, "base", "base", 0.5, n=20)
    add_run(tmp_path, "average", "average", 0.5, n=20, suite={"drug_cell": SUITE["drug_cell"]})
    sweep = load_sweep(tmp_path)
    average = sweep.of_kind(MethodKind.MERGE)[0]
    names = [column.name for column in columns(sweep) if cell(sweep, average, column)]
    assert names == ["drug_cell"]
    assert best_row(sweep, [average], headline(sweep)[0]) is None


def test_a_comparison_is_the_exact_paired_test(tmp_path: Path) -> None:
    suite = {"x": ("X", "cross_modal")}
    add_run(tmp_path, "average", "average", 0.5, n=100, suite=suite)
    add_run(tmp_path, "es", "es", 0.62, n=100, suite=suite)  # right wherever average is, and on 12 more
    sweep = load_sweep(tmp_path)
    average, es = sweep.rows
    comparison = compare(sweep, es, average, columns(sweep)[0])
    assert comparison.result.difference == pytest.approx(0.12)
    assert comparison.result.p_value == pytest.approx(binomtest(12, 12).pvalue)


def test_a_mean_column_tests_the_difference_that_it_shows(tmp_path: Path) -> None:
    """Ahead on many questions of one benchmark, far behind on few of another."""
    suite = {"large": ("Large", "cross_modal"), "small": ("Small", "cross_modal")}
    for method, rates in {"average": {"large": 0.5, "small": 0.8}, "es": {"large": 0.56, "small": 0.5}}.items():
        add_run(tmp_path, method, method, rates, n={"large": 1000, "small": 50}, suite=suite)
    sweep = load_sweep(tmp_path)
    average, es = sweep.rows
    mean = headline(sweep)[0]
    comparison = compare(sweep, es, average, mean)
    scores = [cell(sweep, row, mean) for row in (es, average)]
    assert scores[0] and scores[1] and scores[0].value - scores[1].value == pytest.approx(-0.12)
    assert comparison.result.difference == pytest.approx(-0.12) and comparison.result.ci_high < 0
    marks = [tested for tested in against_baseline(sweep)[0] if tested.column == mean]
    assert [(tested.other.method, tested.significant, tested.result.difference < 0) for tested in marks] == [
        ("average", True, True)
    ]


def test_rows_without_a_common_seed_are_not_compared(tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.5, n=20, seed=1)
    add_run(tmp_path, "es", "es", 0.6, n=20, seed=2)
    sweep = load_sweep(tmp_path)
    assert against_baseline(sweep) == ([], [])  # the verdict names the row
    with pytest.raises(InputError, match="share no seed"):
        compare(sweep, sweep.rows[1], sweep.rows[0], columns(sweep)[0])


def test_other_examples_are_not_compared(tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.5, n=20)
    add_run(tmp_path, "es", "es", 0.6, n=25)
    sweep = load_sweep(tmp_path)
    with pytest.raises(InputError, match="'drug_protein/q20' was not answered"):
        compare(sweep, sweep.rows[1], sweep.rows[0], columns(sweep)[0])


def test_holm_covers_the_whole_table(one_seed: Path) -> None:
    sweep = load_sweep(one_seed)
    comparisons, notes = against_baseline(sweep)
    assert notes == [] and len(comparisons) == 2 * len(columns(sweep))
    smallest = min(comparisons, key=lambda comparison: comparison.result.p_value)
    assert smallest.p_holm == pytest.approx(min(1, smallest.result.p_value * len(comparisons)))
    assert {comparison.other.method for comparison in comparisons} == {"task_arithmetic"}


def test_without_other_merges_the_best_single_model_is_the_baseline(tmp_path: Path) -> None:
    for name, rate in {"base": 0.5, "expert:cell": 0.7, "finetuned": 0.9}.items():
        add_run(tmp_path, name.replace(":", "_"), name, rate, n=20)
    sweep = load_sweep(tmp_path)
    baseline = best_baseline(sweep, columns(sweep)[0])
    assert baseline is not None and baseline.method == "expert:cell"
