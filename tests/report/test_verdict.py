from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.synthetic import SUITE, add_run, fail_run

from esmerge.report.load import load_sweep
from esmerge.report.statistics import against_baseline
from esmerge.report.verdict import verdict
from esmerge.tracking.planned import SweepPlan, write_plan

ONE = {"drug_cell": SUITE["drug_cell"]}


def two(sweep: Path, average: float, es: float, n: int = 400, key: str = "") -> str:
    add_run(sweep, "average", "average", average, n=n, suite=ONE)
    add_run(sweep, "es", "es", es, n=n, suite=ONE, granularity="joint", key=key)
    return verdict(load_sweep(sweep))


def test_equal_methods_are_not_significant(tmp_path: Path) -> None:
    text = two(tmp_path, 0.7, 0.7)
    assert "+0.0 points" in text and "p = 1.000" in text and ", not significant. Which two" in text


def test_clearly_different_methods_are_significant(tmp_path: Path) -> None:
    text = two(tmp_path, 0.6, 0.8)
    assert "ES-Merging (joint) is the best merge with 80.0 %, Average has 60.0 %: +20.0 points" in text
    assert "p < 0.001" in text and ", significant." in text and "not significant" not in text


def test_a_lead_within_noise_is_not_significant(tmp_path: Path) -> None:
    text = two(tmp_path, 0.70, 0.71, n=100, key="other order")
    assert "ES-Merging (joint) is the best merge" in text and "not significant" in text


def test_a_baseline_that_leads_is_named_the_best(tmp_path: Path) -> None:
    assert "Average is the best merge with 80.0 %, ES-Merging (joint) has 60.0 %" in two(tmp_path, 0.8, 0.6)


def test_every_family_is_judged(one_seed: Path) -> None:
    text = verdict(load_sweep(one_seed))
    assert [family in text for family in ("Cross-modal", "Drug\N{EN DASH}drug", "Retention")] == [True] * 3


def test_failed_runs_are_named_with_their_reason(tmp_path: Path) -> None:
    fail_run(tmp_path, "ties_0", ValueError("rank 8 is not rank 16"))
    text = two(tmp_path, 0.6, 0.8)
    assert text.endswith("1 run has no results: ties_0 (failed: ValueError: rank 8 is not rank 16).")


def test_runs_that_are_still_to_come_are_counted(tmp_path: Path) -> None:
    kinds = {"average": "merge", "es": "es", **{f"ties_{number}": "merge" for number in range(7)}}
    write_plan(tmp_path, SweepPlan("2026-01-01T00:00:00+00:00", kinds))
    text = two(tmp_path, 0.6, 0.8)
    assert text.endswith("7 planned runs have not begun: ties_0, ties_1, ties_2, ties_3, ties_4, ….")


def test_p_is_that_of_the_table(tmp_path: Path) -> None:
    """Six rows of ES against the average: the verdict on the best of them is corrected as the table is."""
    add_run(tmp_path, "average", "average", 0.6, n=200, suite=ONE)
    for number in range(6):
        add_run(tmp_path, f"es{number}", "es", 0.69 + number / 100, n=200, suite=ONE, granularity=f"g{number}", key="o")
    sweep = load_sweep(tmp_path)
    comparisons, _ = against_baseline(sweep)
    (best,) = [comparison for comparison in comparisons if comparison.row.granularity == "g5"]
    assert best.p_holm == pytest.approx(6 * best.result.p_value)
    text = verdict(sweep)
    assert f"p = {best.p_holm:.3f}" in text and "p: Holm's correction over 6 comparisons" in text


def test_a_sweep_without_es_is_tested_against_its_best(tmp_path: Path) -> None:
    for name, rate in {"average": 0.6, "task_arithmetic": 0.8, "ties": 0.7}.items():
        add_run(tmp_path, name, name, rate, n=400, suite=ONE)
    sweep = load_sweep(tmp_path)
    comparisons, _ = against_baseline(sweep)
    assert {(comparison.row.method, comparison.other.method) for comparison in comparisons} == {
        ("average", "task_arithmetic"),
        ("ties", "task_arithmetic"),
    }
    assert "Holm's correction over 2 comparisons" in verdict(sweep)


def test_a_control_that_does_as_well_is_pointed_out_and_never_best(tmp_path: Path) -> None:
    add_run(tmp_path, "es_shuffled", "es_shuffled", 0.9, n=400, suite=ONE)
    text = two(tmp_path, 0.6, 0.8)
    assert "Mind the control ES, coefficients shuffled" in text and "ES-Merging (joint) is the best merge" in text


def test_a_floor_that_is_not_beaten_is_pointed_out(tmp_path: Path) -> None:
    add_run(tmp_path, "drug_only", "drug_only", 0.85, n=400, suite=ONE)
    assert "does not beat the floor Drug only (85.0 %)" in two(tmp_path, 0.6, 0.8)


def test_a_lone_merge_is_held_against_the_specialists(tmp_path: Path) -> None:
    add_run(tmp_path, "expert_cell", "expert:cell", 0.5, n=100, suite=ONE)
    add_run(tmp_path, "ties", "ties", 0.9, n=100, suite=ONE)
    assert "TIES is the best merge with 90.0 %, Cell specialist has 50.0 %" in verdict(load_sweep(tmp_path))


def test_two_granularities_alone_are_held_against_each_other(tmp_path: Path) -> None:
    for granularity, rate in {"layer": 0.6, "joint": 0.9}.items():
        add_run(tmp_path, granularity, "es", rate, n=100, suite=ONE, granularity=granularity)
    assert "ES-Merging (joint) is the best merge with 90.0 %, ES-Merging (layer) has 60.0 %" in verdict(
        load_sweep(tmp_path)
    )


def test_references_alone_have_no_best_merge(tmp_path: Path) -> None:
    add_run(tmp_path, "base", "base", 0.5, n=20, suite=ONE)
    assert "no merge has results" in verdict(load_sweep(tmp_path))


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.5, n=20, suite=ONE)
    add_run(tmp_path, "es", "es", 0.6, n=30, suite=ONE)
    assert "not compared with another: example 'drug_cell/q20' was not answered" in verdict(load_sweep(tmp_path))


def test_a_sweep_that_failed_altogether_says_so(tmp_path: Path) -> None:
    fail_run(tmp_path, "es", ValueError("no backbone"))
    text = verdict(load_sweep(tmp_path))
    assert "No run has finished" in text and "es (failed: ValueError: no backbone)" in text
