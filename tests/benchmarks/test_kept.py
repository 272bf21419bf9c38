"""Measurements that outlive the process that took them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmarks.speed import kept as module
from benchmarks.speed.kept import Kept


def never() -> dict[str, Any]:
    raise AssertionError("measured again")


def test_a_measurement_is_taken_once_for_the_same_facts_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "speed.csv"
    assert Kept(out, {"probes": 2})("first", lambda: {"seconds": 1.5}) == {"seconds": 1.5}
    measurements = Kept(out, {"probes": 2})
    assert measurements("first", never) == {"seconds": 1.5} and measurements.taken_up == 1
    assert Kept(out, {"probes": 3}).taken_up == 0
    assert Kept(tmp_path / "other.csv", {"probes": 2}).taken_up == 0
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "changed.py").write_text("")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert Kept(out, {"probes": 2}).taken_up == 0


def test_nothing_is_left_when_the_row_is_written(tmp_path: Path) -> None:
    measurements = Kept(tmp_path / "speed.csv", {})
    measurements("first", dict)
    assert list(tmp_path.iterdir())
    measurements.done()
    assert not list(tmp_path.iterdir())


def test_without_a_file_nothing_is_kept() -> None:
    measurements = Kept(None, {})
    assert measurements("first", lambda: {"seconds": 1.0}) == measurements("first", never)
    assert Kept(None, {}).taken_up == 0
