"""The check of the GPU path: its runner with parts of a few lines, its parts at tiny shapes, all of it on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from benchmarks.gpu import check, equality, memory, merging, models, scoring, sweep
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.report import Report, read_records
from benchmarks.gpu.setting import Setting

ROOT = Path(__file__).parents[2]
MakePart = Callable[[str, str], Part]


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePart:
    """A part whose module has the given body."""
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)

    def make(name: str, body: str) -> Part:
        (tmp_path / f"toy_{name}.py").write_text(f"import time\n\n\ndef run(setting, report):\n    {body}\n")
        return Part(name, f"Part {name}", f"toy_{name}", 30, 30)

    return make


def run(parts: list[Part], out: Path, budget: float = 120) -> dict[str, dict]:
    """Part -> what the JSON says of it; the page and the JSON agree."""
    check.check(parts, out, "cpu", True, budget)
    summary = json.loads((out / "gpu.json").read_text())
    page = (out / "gpu.md").read_text()
    for outcome in summary["parts"]:
        assert f"| {outcome['part']['name']} | {outcome['part']['title']} | {outcome['state']} |" in page
    return {outcome["part"]["name"]: outcome for outcome in summary["parts"]}


def test_states_of_parts(part: MakePart, tmp_path: Path) -> None:
    slow = part("slow", "report.note('before the limit'); time.sleep(100)")
    parts = [
        part(
            "good", "report.row('Numbers', a=1); report.check('sum', True, 2, 2); report.goal('speed', 3, '< 2', False)"
        ),
        part("raises", "report.note('so far'); raise ValueError('no such thing')"),
        part("false", "report.check('sum', False, 3, 2)"),
        part("caught", "with report.attempt('a block'): raise KeyError('x')\n    report.note('after it')"),
        Part("slow", "Part slow", slow.module, 4, 4),
        Part("absent", "Part absent", "toy_absent", 9, 9),
    ]
    outcomes = run(parts, tmp_path / "out")
    states = {name: outcome["state"] for name, outcome in outcomes.items()}
    assert states == {
        "good": "passed", "raises": "failed", "false": "failed", "caught": "failed", "slow": "stopped",
        "absent": "failed",
    }  # fmt: skip
    assert (
        "ValueError: no such thing" in outcomes["raises"]["fault"]
        and "ModuleNotFoundError" in outcomes["absent"]["fault"]
    )
    records = [record for name in ("raises", "caught", "slow") for record in outcomes[name]["records"]]
    notes = [record["text"] for record in records if record["kind"] == "note"]
    assert notes == ["so far", "after it", "before the limit"]
    page = (tmp_path / "out" / "gpu.md").read_text()
    assert "| speed | 3 | < 2 | **missed** |" in page and "| sum | 3 | 2 | **fails** |" in page
    assert "| a |\n| --- |\n| 1 |" in page and "no such thing" in page


def test_a_budget_that_ends_leaves_parts_unreached(part: MakePart, tmp_path: Path) -> None:
    parts = [part("first", "report.note('begun'); time.sleep(100)"), part("second", "report.note('begun')")]
    outcomes = run(parts, tmp_path / "out", budget=6)
    assert outcomes["second"]["state"] == "not reached" and not outcomes["second"]["records"]
    assert outcomes["first"]["state"] == "stopped" and outcomes["first"]["seconds"] <= 7


def test_parts_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    options = check.arguments(["--small", "--only", "scoring,equality"])
    assert [part.name for part in options.parts] == ["equality", "scoring"] and options.device == "cpu"
    assert check.arguments([]).device == "cuda" and sum(part.seconds for part in PARTS) < 480
    with pytest.raises(SystemExit):
        check.arguments(["--only", "speed"])
    assert "expected some of equality" in capsys.readouterr().err


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    report = Report(tmp_path / "records")
    report.note("whole")
    with (tmp_path / "records").open("a") as file:
        file.write('{"kind": "no')
    assert read_records(tmp_path / "records") == [{"kind": "note", "text": "whole"}]


@pytest.mark.parametrize("module", [merging, scoring, memory])
def test_a_part_at_tiny_shapes(module: object, tmp_path: Path) -> None:
    report = Report(tmp_path / "records")
    module.run(Setting(True, "cpu", 60, tmp_path), report)  # type: ignore[attr-defined]
    records = read_records(tmp_path / "records")
    assert not report.failed and [record for record in records if record["kind"] == "row"]


def test_differences_are_relative_to_the_norm() -> None:
    expected = {"a": torch.tensor([3.0, 4.0]), "b": torch.ones(2)}
    assert equality.largest({"a": torch.tensor([3.0, 4.5]), "b": torch.ones(2)}, expected) == pytest.approx(0.1)
    with pytest.raises(AssertionError, match="names differ"):
        equality.largest({"a": expected["a"]}, expected)
    with pytest.raises(merging.TooSlow), merging.guarded(0.01):
        while True:
            pass


def test_sweeps_that_differ_are_told_apart(tmp_path: Path) -> None:
    def results(folder: str, average: float, p: float) -> Path:
        (tmp_path / folder).mkdir()
        rows = [
            {"run": folder, "method": method, "granularity": None, "probe": None, "merge_space": "delta", "seed": 0,
             "benchmark": "toy", "metric": "accuracy", "value": value}
            for method, value in (("average", average), ("ties", 0.7))
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(tmp_path / folder / "results.csv", index=False)
        marks = [{"column": "toy", "method": "average", "against": "ties", "difference": average - 0.7, "p_holm": p}]
        pd.DataFrame(marks).to_csv(tmp_path / folder / "comparisons.csv", index=False)
        return tmp_path / folder

    cpu = results("cpu", 0.6, 0.01)
    for name, average, p, holds in (("near", 0.605, 0.02, 4), ("far", 0.75, 0.02, 1), ("unsure", 0.6, 0.2, 3)):
        report = Report(tmp_path / f"{name}.jsonl")
        sweep.compare(report, cpu, results(name, average, p))
        checks = [r for r in read_records(tmp_path / f"{name}.jsonl") if r["kind"] == "check"]
        assert len(checks) == 4 and sum(r["passed"] for r in checks) == holds, name


def test_the_published_shapes_are_those_of_an_8b_model() -> None:
    with torch.device("meta"):
        body = models.random_llama(models.LLAMA_8B, "meta", torch.bfloat16)
    assert models.weight_bytes(body) == pytest.approx(2 * 8.03e9, rel=1e-3)


@pytest.mark.slow
def test_all_of_it_on_the_cpu(tmp_path: Path) -> None:
    command = [ROOT / "benchmarks" / "gpu" / "check.sh", "--small", "--out", tmp_path / "out"]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    summary = json.loads((tmp_path / "out" / "gpu.json").read_text())
    states = {outcome["part"]["name"]: outcome["state"] for outcome in summary["parts"]}
    assert states == {part.name: "passed" for part in PARTS}, process.stdout + process.stderr
    assert process.returncode == 0
