"""How far a sweep is, told from its folder alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from esmerge.core.errors import StoreError
from esmerge.core.progress import hidden_bars, progress
from esmerge.storage.files import write_json
from esmerge.tracking import steps
from esmerge.tracking.planned import SweepPlan, at_work, read_plan, somebody_is_at_work, write_plan
from esmerge.tracking.steps import noted_steps, read_step
from esmerge.tracking.store import KILLED, RunFolder
from esmerge.tracking.survey import Phase, Surveyor

LATER = "2099-01-01T00:00:00+00:00"
KINDS = {"majority-s0": "floor", "ties-s0": "merge", "es-s0": "merge", "average-s0": "merge"}


def write_status(sweep: Path, name: str, state: str, **fields: object) -> RunFolder:
    write_json(sweep / name / "status.json", {"state": state, **fields})
    return RunFolder(sweep / name)


@pytest.fixture()
def sweep(tmp_path: Path) -> Path:
    """One run of each state: two done, one killed, one that nobody has come to yet."""
    write_plan(tmp_path, SweepPlan("2020-01-01T00:00:00+00:00", KINDS))
    write_status(tmp_path, "majority-s0", "done", seconds=1.0)
    write_status(tmp_path, "ties-s0", "done", seconds=60.0)
    write_status(tmp_path, "es-s0", "running", started="2020-01-01T00:00:01+00:00")
    return tmp_path


def phases(sweep: Path) -> dict[str, str]:
    return {run.name: run.phase.value for run in Surveyor(sweep).look().runs}


def test_every_run_stands_somewhere(sweep: Path) -> None:
    expected = {"majority-s0": "done", "ties-s0": "done", "average-s0": "remaining"}
    assert phases(sweep) == {**expected, "es-s0": "failed"}  # it was killed: nobody holds its lock
    assert Surveyor(sweep).look().of(Phase.FAILED)[0].reason == KILLED
    with RunFolder(sweep / "es-s0").lock():
        assert phases(sweep) == {**expected, "es-s0": "running"}


def test_a_run_that_ends_is_seen_to_end(sweep: Path) -> None:
    surveyor = Surveyor(sweep)
    with RunFolder(sweep / "es-s0").lock():
        assert len(surveyor.look().of(Phase.RUNNING)) == 1
    assert len(surveyor.look().of(Phase.RUNNING)) == 0  # its record says still that it runs
    write_status(sweep, "es-s0", "done", seconds=9.0)
    assert len(surveyor.look().of(Phase.DONE)) == 3


def test_time_left_is_that_of_runs_of_the_same_kind(sweep: Path) -> None:
    (sweep / "es-s0" / "status.json").unlink()
    assert Surveyor(sweep).look().seconds_left() == pytest.approx(2 * 60.0)
    write_plan(sweep, SweepPlan("2020-01-01T00:00:00+00:00", {**KINDS, "base-s0": "reference"}))
    assert Surveyor(sweep).look().seconds_left() == pytest.approx(2 * 60.0 + 61.0 / 2)  # of its kind none is done


def test_runs_that_go_on_at_once_share_the_time_left(sweep: Path) -> None:
    write_status(sweep, "average-s0", "running", started=LATER)
    write_status(sweep, "es-s0", "running", started=LATER)
    with RunFolder(sweep / "es-s0").lock(), RunFolder(sweep / "average-s0").lock():
        assert Surveyor(sweep).look().seconds_left() == pytest.approx(60.0)


def test_nobody_knows_how_long_a_search_takes_or_a_sweep_that_has_just_begun(tmp_path: Path) -> None:
    write_plan(tmp_path, SweepPlan(LATER, KINDS))
    assert Surveyor(tmp_path).look().seconds_left() is None
    write_status(tmp_path, "majority-s0", "done", seconds=1.0)
    assert Surveyor(tmp_path).look().seconds_left() is not None
    write_plan(tmp_path, SweepPlan(LATER, {}, is_search=True))
    assert Surveyor(tmp_path).look().seconds_left() is None


def test_what_failed_before_this_command_is_tried_again_by_it(sweep: Path) -> None:
    write_status(sweep, "es-s0", "failed", reason="broken", started="2019-01-01T00:00:00+00:00")
    assert phases(sweep)["es-s0"] == "failed"
    with at_work(sweep):
        assert phases(sweep)["es-s0"] == "remaining"
        write_status(sweep, "es-s0", "failed", reason="broken", started="2020-01-01T00:00:02+00:00")
        assert phases(sweep)["es-s0"] == "failed"


def test_a_sweep_is_at_work_as_long_as_its_process_says_so(tmp_path: Path) -> None:
    assert not somebody_is_at_work(tmp_path)
    with at_work(tmp_path):
        with at_work(tmp_path):  # two processes may share a sweep
            assert Surveyor(tmp_path).look().at_work
        assert somebody_is_at_work(tmp_path)
    assert not somebody_is_at_work(tmp_path)


def test_the_clock_stops_with_the_last_run(sweep: Path) -> None:
    write_status(sweep, "majority-s0", "done", seconds=1.0, finished="2020-01-01T00:01:00+00:00")
    assert Surveyor(sweep).look().seconds == 60.0
    with at_work(sweep):
        seconds = Surveyor(sweep).look().seconds
    assert seconds is not None and seconds > 60.0


def test_a_plan_that_is_none_is_refused(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    write_json(tmp_path / "plan.json", {"begun": "today"})
    with pytest.raises(StoreError, match=r"plan\.json is no plan of a sweep .*begun"):
        read_plan(tmp_path)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_run_notes_what_it_is_busy_with(
    hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "EVERY", 0.0)

    def work() -> None:
        with noted_steps(tmp_path), progress("probe", 10) as bar:
            bar.update(3)
            step = read_step(tmp_path)
            assert step is not None and (step.title, step.done, step.total) == ("probe", 3, 10)
        assert read_step(tmp_path) is None

    if hidden:
        with hidden_bars():
            work()
        assert capsys.readouterr().err == ""
    else:
        work()
        assert "probe" in capsys.readouterr().err
