"""Two sources side by side: sweeps, and logs of other programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from tests.report.synthetic import add_run, fail_run

from esmerge.cli.report import with_list
from esmerge.core.errors import InputError, StoreError
from esmerge.evaluation.unpaired import unpaired_difference
from esmerge.report.beside.build import compare_sources, read_answers

ONE = {"d": ("Drug", "cross_modal")}


def harness(right: np.ndarray, **fields: object) -> list[dict[str, object]]:
    rows = [{"doc_id": i, "doc_hash": f"h{i}", "target": "yes", "acc": float(r)} for i, r in enumerate(right)]
    return [{**row, **fields} for row in rows]


def inspect(right: np.ndarray, **fields: object) -> list[dict[str, object]]:
    grades = ["C" if r else "I" for r in right]
    rows = [{"id": i, "epoch": 1, "target": "B", "scores": {"choice": {"value": g}}} for i, g in enumerate(grades)]
    return [{**row, **fields} for row in rows]


def write_log(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def both(folder: Path, **changes: object) -> pd.DataFrame:
    """Two sweeps of one run, 60 and 80 % of 100 questions right, the second changed as told."""
    add_run(folder / "A", "average", "average", 0.6, n=100, suite=ONE)
    add_run(folder / "B", "average", "average", **{"accuracy": 0.8, "n": 100, "suite": ONE, **changes})  # type: ignore[arg-type]
    return compare_sources([folder / "A", folder / "B"], folder / "out").table


def test_equal_questions_are_paired_by_mcnemars_test(tmp_path: Path) -> None:
    row = both(tmp_path).iloc[0]
    assert row["paired"] and row["n"] == 100 and row["difference"] == pytest.approx(-0.2)
    assert row["p"] == pytest.approx(binomtest(0, 20).pvalue)  # nested sets: 20 disagree, all in favour of B
    assert row["ci_low"] < -0.2 < row["ci_high"] < 0 < row["detectable"] < 0.3
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| Average | Drug | 60.0 | 80.0 | **-20.0**" in text and "Could have shown" in text


def test_questions_of_one_sweep_only_are_left_out_and_counted(tmp_path: Path) -> None:
    row = both(tmp_path, n=150).iloc[0]
    assert row["paired"] and (row["n"], row["n_a"], row["n_b"]) == (100, 100, 150)
    assert (
        "Drug: answers compared are 100 of 100 in A; 100 of 150 in B, 80.0 % of all right."
        in (tmp_path / "out" / "comparison.md").read_text()
    )


def test_other_tables_are_never_paired(tmp_path: Path) -> None:
    row = both(tmp_path, terms={"checksum": "1"}).iloc[0]
    assert not row["paired"] and row["n"] == 0
    assert "- Drug: not paired, the tables differ." in (tmp_path / "out" / "comparison.md").read_text()
    expected = unpaired_difference(60, 100, 80, 100)
    assert row["p"] == pytest.approx(expected.p_value) and row["detectable"] == pytest.approx(expected.detectable)


def test_seeds_and_benchmarks_of_one_sweep_only_are_named(tmp_path: Path) -> None:
    more = {**ONE, "p": ("Protein", "cross_modal")}
    for seed, rate in enumerate((0.5, 0.8, 0.8)):
        add_run(tmp_path / "A", f"average_{seed}", "average", rate, seed=seed, n=100, suite=more)
    for seed in (0, 7):
        add_run(tmp_path / "B", f"average_{seed}", "average", 0.6, seed=seed, n=100, suite=ONE)
    comparison = compare_sources([tmp_path / "A", tmp_path / "B"], tmp_path / "out")
    row = comparison.table.iloc[0]
    assert len(comparison.table) == 1
    assert (row["benchmark"], row["n"], row["total_a"], row["total_b"]) == ("d", 100, 300, 200)
    assert row["accuracy_a"] == 0.5 and row["total_accuracy_a"] == pytest.approx(0.7)
    assert "- Only in A: benchmarks Protein; seeds or epochs 1, 2." in comparison.text
    assert "- Only in B: seeds or epochs 7." in comparison.text
    assert (
        "- Drug: answers compared are 100 of 300 in A, 70.0 % of all right; 100 of 200 in B, 60.0 % of all right."
        in comparison.text
    )


def test_what_one_method_alone_lacks_is_said_of_that_method(tmp_path: Path) -> None:
    more = {**ONE, "p": ("Protein", "cross_modal")}
    for method in ("average", "ties"):
        for seed in (0, 1):
            add_run(tmp_path / "A", f"{method}_{seed}", method, 0.6, seed=seed, n=20, suite=more)
            suite = more if (method, seed) == ("average", 0) else ONE
            if (method, seed) != ("ties", 1):
                add_run(tmp_path / "B", f"{method}_{seed}", method, 0.6, seed=seed, n=20, suite=suite)
    text = compare_sources([tmp_path / "A", tmp_path / "B"], tmp_path / "out").text
    assert "- Only in A, Average: seeds or epochs 1 of Protein." in text
    assert "- Only in A, TIES: benchmarks Protein; seeds or epochs 1." in text
    assert "Only in B" not in text
    assert "- Protein (Average): answers compared are 20 of 40 in A, 60.0 % of all right; 20 of 20 in B." in text
    assert "- Drug (TIES): answers compared are 20 of 40 in A, 60.0 % of all right; 20 of 20 in B." in text


def test_equal_sweeps_have_no_note_on_what_is_left_out(tmp_path: Path) -> None:
    both(tmp_path)
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert not any(word in text for word in ("Only in", "answers compared", "not paired", "What is right", "left out"))


def test_runs_that_are_not_finished_are_named(tmp_path: Path) -> None:
    fail_run(tmp_path / "A", "ties_0", ValueError("no"))
    both(tmp_path)
    assert "- A: not finished and left out: ties_0." in (tmp_path / "out" / "comparison.md").read_text()


def test_sources_without_a_common_seed_say_their_seeds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"on d \(seeds or epochs 0\), the second .* on d \(seeds or epochs 3\)"):
        both(tmp_path, seed=3)


def test_methods_of_one_sweep_only_and_settings_are_listed(tmp_path: Path) -> None:
    add_run(tmp_path / "A", "ties", "ties", 0.5, suite=ONE)
    add_run(tmp_path / "B", "base", "base", 0.5, suite=ONE)
    both(tmp_path, config={"method": {"scale": 2}})
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "Only in A: TIES." in text and "Only in B: Base model." in text
    assert "Settings that differ, A / B: method.scale – / 2." in text


@pytest.mark.parametrize("form", [harness, inspect])
def test_foreign_logs_are_paired(form: Callable[[np.ndarray], list[dict[str, object]]], tmp_path: Path) -> None:
    name = "samples_pubmedqa_2026-01-02T03-04-05.678.jsonl" if form is harness else "pubmedqa.jsonl"
    right = np.arange(40) % 4 > 0
    better = right | (np.arange(40) < 24)
    logs = [write_log(tmp_path / k / name, form(r)).parent for k, r in (("a", right), ("b", better))]
    row = compare_sources(logs, tmp_path / "out").table.iloc[0]
    assert row["benchmark"] == "pubmedqa" and row["paired"] and row["n"] == 40
    by_number = "paired by number and target alone" in (tmp_path / "out" / "comparison.md").read_text()
    assert by_number == (form is inspect)  # these lines of Inspect hold no question
    assert row["difference"] == pytest.approx(-6 / 40) and row["p"] == pytest.approx(binomtest(0, 6).pvalue)


def test_filters_scorers_and_epochs_are_told_apart(tmp_path: Path) -> None:
    right = np.arange(4) > 0
    rows = [*harness(right, filter="strict"), *harness(~right, filter="loose")]
    sets = read_answers(write_log(tmp_path / "h.jsonl", rows)).methods["all samples"]
    assert [benchmark for _, benchmark in sets] == ["samples [strict]", "samples [loose]"]
    rows = [*inspect(right), *inspect(~right, epoch=2)]
    sets = read_answers(write_log(tmp_path / "i.jsonl", rows)).methods["all samples"]
    assert list(sets) == [("1", "samples"), ("2", "samples")]
    samples = inspect(right, scores={"match": {"value": 1}, "judge": {"value": False}})
    sets = read_answers(write_log(tmp_path / "j.jsonl", samples)).methods["all samples"]
    assert [benchmark for _, benchmark in sets] == ["samples [match]", "samples [judge]"]


def test_other_documents_under_the_same_numbers_are_not_paired(tmp_path: Path) -> None:
    right = np.arange(10) % 2 > 0
    logs = [write_log(tmp_path / f"{name}.jsonl", harness(right)) for name in ("a", "b")]
    logs[1].write_text(logs[1].read_text().replace('"h', '"other'))
    assert not compare_sources(logs, tmp_path / "out").table.iloc[0]["paired"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no samples"),
        ("[1]\n", "line 1: list, expected a JSON object"),
        ('{"doc_id": 1}\n', "line 1: none of the metrics acc, exact_match"),
        ('{"doc_id": 1, "target": "a", "acc": 0.5}\n', "line 1: acc is 0.5: expected 1 or 0"),
        ('{"question": 1}\n', "line 1: keys question: expected a sample of lm-evaluation-harness"),
        ("{no\n", "line 1: no JSON"),
    ],
)
def test_other_logs_are_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        read_answers(tmp_path / "log.jsonl")


def test_nothing_in_common_and_nothing_there(tmp_path: Path) -> None:
    logs = [write_log(tmp_path / name / f"{name}.jsonl", harness(np.arange(4) > 0)).parent for name in ("a", "b")]
    with pytest.raises(InputError, match="no method and benchmark in common: the first has all samples on a, the "):
        compare_sources(logs, tmp_path / "out")
    with pytest.raises(StoreError, match="there is no"):
        read_answers(tmp_path / "nothing")


def test_newcombes_interval_is_the_published_one() -> None:
    result = unpaired_difference(56, 70, 48, 80)  # Newcombe 1998, table II, example a, method 10
    assert (round(result.ci_low, 4), round(result.ci_high, 4)) == (0.0524, 0.3339)


def test_the_command_takes_two_paths_and_loads_no_torch(tmp_path: Path) -> None:
    assert with_list(["compare=a b,c", "folder=x"]) == ['compare=["a b","c"]', "folder=x"]
    for name in ("A", "B"):
        add_run(tmp_path / "outputs" / name, "average", "average", 0.6, n=20, suite=ONE)
    code = "import sys; from esmerge.cli.report import main; main(); assert 'torch' not in sys.modules, 'torch'"
    environment = {**os.environ, "PYTHONPATH": f"{os.getcwd()}/src", "COLUMNS": "160"}
    line = [sys.executable, "-c", code, "compare=outputs/A,outputs/B"]
    process = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "outputs" / "comparisons" / "A-B" / "comparison.csv").exists() and "Average" in process.stdout
