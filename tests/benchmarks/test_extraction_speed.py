"""The measurement of extractions, at shapes that take seconds."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from benchmarks.speed import extraction
from benchmarks.speed.inputs import SHAPES
from benchmarks.speed.standalone import Run


def test_both_checkpoints_are_ones_that_transformers_loads(tmp_path: Path) -> None:
    base, tuned = extraction.make(SHAPES["smollm2-135m"], 1, tmp_path)
    before, after = extraction._load(base), extraction._load(tuned)
    assert before.keys() == after.keys() and len(list(base.glob("*.safetensors"))) == 2
    assert {name for name in before if not before[name].equal(after[name])} == {n for n in before if "_proj" in n}


def test_the_commands_write_where_the_residual_is_read(tmp_path: Path) -> None:
    commands = extraction.commands(tmp_path / "base", tmp_path / "tuned", tmp_path, 8)
    assert f"out={tmp_path / 'esmerge'}" in commands["esmerge"] and "rank=8" in commands["esmerge"]
    assert str(tmp_path / "mergekit") in commands["mergekit"] and commands["mergekit"][0] == sys.executable


def test_a_row_by_hand() -> None:
    line = extraction.row("esmerge", Run(0, 12.34, 11.1, 500_000_000), 0.25)
    assert line == "| esmerge | 12.3 | 11.1 | 500.0 MB | 0.2500 |"
    assert re.sub(r"[^|]", "", extraction.HEAD.splitlines()[0]) == re.sub(r"[^|]", "", line)


def test_unknown_shapes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        extraction.arguments(["--shapes", "enormous"])
    assert "invalid choice" in capsys.readouterr().err
