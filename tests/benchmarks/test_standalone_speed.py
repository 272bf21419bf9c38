"""The measurement of merges on disk, at shapes that take seconds."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed import standalone
from benchmarks.speed.inputs import Adapters

from esmerge.adapters.peft_folder import load_adapter


def test_adapters_that_the_merge_takes(tmp_path: Path) -> None:
    command = standalone.make(Adapters("smollm2-135m", 2, 2, 4, "bfloat16"), tmp_path)
    state = load_adapter(tmp_path / "expert1", "expert1")
    assert len(state.modules) == 14 and {factors.rank for factors in state.modules.values()} == {4}
    assert command[1:3] == ["-m", "src.merge"] and f"experts.expert1={tmp_path / 'expert1'}" in command


def test_the_table_has_a_row_for_each_method(tmp_path: Path, capsys: Any) -> None:
    argv = ["--shapes", "tiny", "--rank", "2", "--methods", "average@delta", "--folder", str(tmp_path)]
    assert standalone.main(argv) == 0
    table = capsys.readouterr().out
    assert "3 adapters of rank 2" in table
    line = re.search(r"\| average@delta \|( -?[\d.]+ \|){5} [\d.]+ [MG]B \| ", table)
    assert line and line[0].count("|") == table.splitlines()[2].count("|") - 1
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_fails_says_so(capsys: Any) -> None:
    run = standalone.run([sys.executable, "-c", "raise SystemExit(3)"])
    assert run.code == 3 and run.memory > 0 and run.cpu > 0 and run.seconds > 0


def test_a_row_by_hand() -> None:
    merge, start = standalone.Run(0, 19.0, 12.5, 500_000_000), standalone.Run(0, 7.0, 6.0, 300_000_000)
    assert standalone.row("average", merge, start, 4.0) == (
        "| average | 19.0 | 7.0 | 4.0 | 3.00 | 6.5 | 500.0 MB | 200.0 MB |"
    )


def test_copies_are_made_and_removed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    assert standalone.copy(tmp_path) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
