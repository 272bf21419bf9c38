"""The benchmark of halves side by side on tiny shapes: that it measures all ways, not how quick they are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from benchmarks.speed import side_by_side

TINY = ["--layers=2", "--hidden=64", "--words=50", "--length=24", "--batch-size=6", "--steps=1", "--repeats=1",
        "--threads=2", "--dtype=float32", "--rank=2"]  # fmt: skip


def test_a_row_with_all_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([0.0, 3.0, 3.0, 5.0, 5.0, 6.0])  # of the clock, before and after each way
    monkeypatch.setattr(side_by_side, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    before = torch.get_num_threads()
    try:
        assert side_by_side.main([*TINY, f"--out={tmp_path / 'speed.csv'}"]) == 0
    finally:
        torch.set_num_threads(before)
    (row,) = pd.read_csv(tmp_path / "speed.csv").to_dict("records")
    assert [row[way] for way in side_by_side.WAYS] == [3.0, 2.0, 1.0]
    assert row["against_shared"] == 2.0 and row["against_one"] == 3.0
    assert "times as fast" in capsys.readouterr().out


def test_half_of_the_sequences_imitate() -> None:
    taught = side_by_side.sequences(side_by_side.arguments(TINY))
    assert [item.imitates is not None for item in taught] == [False, True] * 3
