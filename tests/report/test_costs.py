"""Published and tuned settings stand in tables of their own; what merges cost and what tuning chose stand below."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.report.synthetic import RECORDS, add_run

from esmerge.report.build import build_report
from esmerge.report.costs import cost_lines
from esmerge.report.load import PUBLISHED, TUNED, load_sweep
from esmerge.report.page.tables import costs_table

TUNING = {"tuning": {"name": "validation", "trials": 3}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ES and TIES under published settings, where TIES leads, and tuned, where ES leads; two seeds."""
    for seed in (0, 1):
        add_run(tmp_path, f"base-{seed}", "base", 0.5, seed=seed, n=100)
        for method, rate in (("es", 0.6), ("ties", 0.7)):
            run = add_run(tmp_path, f"{method}-{seed}", method, rate, seed=seed, n=100, merge_space="delta")
            run.write_costs({"measuring": _cost(4.0, 100.0), "merging": _cost(1.0 + seed, None)})
        for method, rate in (("es", 0.9), ("ties", 0.75)):
            name = f"{method}-tuned-{seed}"
            run = add_run(tmp_path, name, method, rate, seed=seed, n=100, merge_space="delta", config=TUNING)
            run.write_tuning(pd.DataFrame({"scale": [1.0, 2.0 + seed, 3.0], "accuracy": [0.5, 0.8, 0.8]}))
    return tmp_path


def _cost(seconds: float, memory: float | None) -> dict[str, float | None]:
    return {"seconds": seconds, "memory": memory}


def test_each_table_holds_its_own_merges_and_every_reference(folder: Path) -> None:
    parts = load_sweep(folder).parts()
    assert list(parts) == [PUBLISHED, TUNED]
    titles = {name: [row.title for row in part.rows] for name, part in parts.items()}
    assert titles[PUBLISHED] == ["Base model", "TIES (delta)", "ES-Merging (delta)"]
    assert titles[TUNED] == ["Base model", "TIES (delta, tuned)", "ES-Merging (delta, tuned)"]
    assert all(set(row.runs) == {"0", "1"} for part in parts.values() for row in part.rows)


def test_a_report_on_both(folder: Path) -> None:
    report = build_report(folder)
    text = (folder / "table.md").read_text()
    assert text.index(f"## {PUBLISHED}") < text.index(f"## {TUNED}") < text.index("## Costs")
    assert "- ES-Merging (delta, tuned), seed 1: scale=3 (80.0 %, published settings 50.0 %)" in text
    assert f"{PUBLISHED}:" in report.verdict and "TIES (delta) is the best merge with 70.0 %" in report.verdict
    assert "ES-Merging (delta, tuned) is the best merge with 90.0 %, TIES (delta, tuned) has 75.0 %" in report.verdict
    comparisons = pd.read_csv(folder / "comparisons.csv")
    pairs = set(zip(comparisons["method"], comparisons["against"], strict=True))
    assert pairs == {
        ("ES-Merging (delta)", "TIES (delta)"),
        ("ES-Merging (delta, tuned)", "TIES (delta, tuned)"),
    }
    assert len(report.tables) == 2 and (folder / "table.tex").read_text().count(r"\begin{table}") == 2


def test_costs_are_means_over_seeds_and_empty_where_unknown(folder: Path) -> None:
    build_report(folder)
    costs = pd.read_csv(folder / "costs.csv").set_index("method")
    assert list(costs.index) == ["TIES (delta)", "ES-Merging (delta)"]
    row = costs.loc["ES-Merging (delta)"]
    assert row["measuring_seconds"] == 4 and row["merging_seconds"] == 1.5 and row["measuring_mib"] == 100
    assert pd.isna(row["merging_mib"])
    assert "| ES-Merging (delta) | 4.0 | 100.0 | 1.5 |  |" in (folder / "table.md").read_text()


def test_less_than_a_second_is_told_in_two_digits(tmp_path: Path) -> None:
    seconds = {
        "average": (0.0318, "0.032"),
        "ties": (0.996, "1.0"),
        "task_arithmetic": (0.5, "0.50"),
        "es": (0.0, "0.0"),
    }
    for method, (value, _) in seconds.items():
        run = add_run(tmp_path, method, method, 0.5, n=20)
        run.write_costs({"measuring": _cost(12.345, None), "merging": _cost(value, 0.004)})
    sweep = load_sweep(tmp_path)
    lines = cost_lines(sweep)
    on_page = {row[0].text: [cell.text for cell in row[1:]] for row in costs_table(sweep).rows}
    for method, (_, text) in seconds.items():
        title = RECORDS[method].title
        assert f"| {title} | 12.3 |  | {text} | 0.0040 |" in lines
        assert on_page[title][::2] == ["12.3", text] and on_page[title][-1] == "0.0040"


def test_without_tuning_and_costs_there_is_one_plain_table(tmp_path: Path) -> None:
    add_run(tmp_path, "base", "base", 0.5, n=20)
    add_run(tmp_path, "es", "es", 0.6, n=20)
    report = build_report(tmp_path)
    text = (tmp_path / "table.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert (
        len(report.tables) == 1 and headings == ["## Retention", "## Figures"] and not (tmp_path / "costs.csv").exists()
    )
