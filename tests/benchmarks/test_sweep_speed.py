"""The measurement of sweeps: margins are differences, and what is run is the front door."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from benchmarks.speed import sweep as module
from benchmarks.speed.sweep import Spent, alone, arguments, main, marginal, profiled, report


def test_a_margin_is_the_difference_per_merge() -> None:
    short = [Spent(10.0, {"merging": 1.0, "scoring": 2.0, "tracking": 0.5})] * 3
    long = [Spent(18.8, {"merging": 3.0, "scoring": 8.0, "tracking": 1.3})] * 3
    margin = marginal(short, long, 4)
    assert margin["merge_seconds"] == pytest.approx(2.2) and margin["work_seconds"] == pytest.approx(2.0)
    assert margin["times_work"] == pytest.approx(1.1)
    assert (margin["largest_other"], margin["largest_other_seconds"]) == ("tracking", pytest.approx(0.2))


def test_what_no_stage_holds_is_part_of_the_profile() -> None:
    cost = Spent(10.0, {"scoring": 2.0, "merging": 1.0, "probe": 0.5})
    assert list(cost.profile().items()) == [("other", 6.5), ("scoring", 2.0), ("merging", 1.0), ("probe", 0.5)]
    profile = profiled(cost)
    assert profile["stage1"] == "other" and profile["stage3_seconds"] == 1.0 and "stage4" not in profile


def test_every_sweep_gets_the_same_cache_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "team").write_text("trained")
    sweeps: list[list[str]] = []

    def run(settings: list[str], cache_copy: Path, out: Path) -> Spent:
        assert [path.name for path in cache_copy.iterdir()] == ["team"]
        (cache_copy / "predictions").write_text("of this sweep")
        sweeps.append(list(settings))
        return Spent(1.0, {})

    monkeypatch.setattr(module, "sweep", run)
    for count in (1, 3, 3):
        alone(count, ["compute.threads=1"], cache, tmp_path)
    assert [settings[1].count(",") for settings in sweeps] == [0, 2, 2] and sweeps[1] == sweeps[2]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"] and len(list(cache.iterdir())) == 1


def test_a_row_is_measured_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(settings: list[str], cache: Path, out: Path) -> Spent:
        cache.mkdir(exist_ok=True)
        return Spent(5.0 + settings[1].count(","), {"merging": 1.0, "scoring": settings[1].count(",") + 1.0})

    monkeypatch.setattr(module, "sweep", run)
    out = tmp_path / "speed.csv"
    assert main(["--repeats=1", "--merges=3", "--threads=1", f"--out={out}"]) == 0
    assert "from an empty cache" in capsys.readouterr().out and len(out.read_text().splitlines()) == 2


def test_a_sweep_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="granularity"):
        module.sweep(["granularity=none_such"], tmp_path / "cache", tmp_path / "out")


def test_one_merge_is_no_margin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--merges=1"])
    assert "--merges 1: expected at least 2" in capsys.readouterr().err


def test_the_report_names_the_aim() -> None:
    short = Spent(10.0, {"merging": 1.0, "scoring": 2.0, "probe": 0.5})
    long = Spent(13.0, {"merging": 2.0, "scoring": 4.0, "probe": 0.5})
    row = {"cold": False, "threads": 1, **profiled(short), **marginal([short], [long], 1)}
    assert "1.0 times these (aim: at most 1.05)" in report(row)


def test_a_run_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def run(settings: list[str], cache: Path, out: Path) -> Spent:
        if len(calls) == 2:
            calls.append("killed")
            raise KeyboardInterrupt
        calls.append(settings[0])
        cache.mkdir(exist_ok=True)
        return Spent(5.0 + settings[1].count(","), {"merging": 1.0, "scoring": settings[1].count(",") + 1.0})

    monkeypatch.setattr(module, "sweep", run)
    out, cache = tmp_path / "speed.csv", tmp_path / "cache"
    argv = ["--repeats=1", "--merges=3", "--threads=1", f"--cache={cache}", f"--out={out}"]
    with pytest.raises(KeyboardInterrupt):
        main(argv)
    assert main(argv) == 0
    assert [name.split("=")[0] for name in calls] == ["granularity", "method", "killed", "method"]
    row = pd.read_csv(out).iloc[0]
    assert row["cold"] and row["taken_up"] == 2 and row["merge_seconds"] == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "speed.csv"]
