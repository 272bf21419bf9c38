"""Faults injected into small sweeps: each has its message, and the same command ends with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.reliability import __main__ as command
from benchmarks.reliability.disks import damaged_files, full_disk, read_only
from benchmarks.reliability.hostile import TARGETS
from benchmarks.reliability.inputs import input_rows
from benchmarks.reliability.kills import interrupts, kills, out_of_memory, two_at_once
from benchmarks.reliability.page import page
from benchmarks.reliability.processes import clock_backwards, tracker_death, worker_death
from benchmarks.reliability.rows import FaultRow, InputRow, table
from benchmarks.reliability.soak import Soak, Watched, soak
from benchmarks.reliability.sweeps import SMALLEST, TINY, SmallSweep, lost_rows

pytestmark = pytest.mark.timeout(900)  # on a machine that does much else; a quiet one needs a tenth


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallSweep:
    """A sweep that nothing disturbs."""
    sweep = SmallSweep(tmp_path_factory.mktemp("small"), SMALLEST)
    assert sweep.finish() == 0, sweep.said()
    assert not sweep.leftovers()
    return sweep


@pytest.fixture(scope="module")
def expected(small: SmallSweep) -> bytes:
    assert len(small.results().splitlines()) > 10
    return small.results()


@pytest.fixture(scope="module")
def larger_results(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Results of a larger sweep."""
    sweep = SmallSweep(tmp_path_factory.mktemp("whole"), TINY)
    assert sweep.finish() == 0, sweep.said()
    return sweep.results()


def survived(*rows: FaultRow) -> bool:
    return all(row.injected == row.survived > 0 and row.lost == 0 for row in rows)


def test_twenty_kills_lose_nothing(tmp_path: Path, expected: bytes) -> None:
    row = kills(tmp_path, expected, 20, settings=SMALLEST, moments=0.8)
    assert survived(row) and row.injected == 20


@pytest.mark.slow
def test_kills_of_a_larger_sweep_lose_nothing(tmp_path: Path, larger_results: bytes) -> None:
    assert survived(kills(tmp_path, larger_results, 20, seed=1))


@pytest.mark.slow
def test_ctrl_c_loses_nothing(tmp_path: Path, larger_results: bytes) -> None:
    assert survived(interrupts(tmp_path, larger_results, 1))


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path, expected: bytes) -> None:
    assert survived(full_disk(tmp_path, expected, SMALLEST, sizes=(300,)))


def test_damaged_files_are_told_and_made_again(tmp_path: Path, small: SmallSweep, expected: bytes) -> None:
    rows = damaged_files(tmp_path, small, expected)
    assert survived(*rows) and all(row.injected > 20 for row in rows)


def test_running_out_of_memory_in_scoring_loses_nothing(tmp_path: Path, expected: bytes) -> None:
    assert survived(out_of_memory(tmp_path, expected, SMALLEST))


@pytest.mark.slow
def test_a_read_only_folder_is_told_and_loses_nothing(tmp_path: Path, expected: bytes) -> None:
    assert survived(read_only(tmp_path / "disk", expected, SMALLEST))


@pytest.mark.slow
def test_two_sweeps_share_a_folder(tmp_path: Path, expected: bytes) -> None:
    assert survived(two_at_once(tmp_path, expected, SMALLEST))


@pytest.mark.slow
def test_a_clock_that_goes_backwards_changes_nothing(tmp_path: Path, expected: bytes) -> None:
    assert survived(clock_backwards(tmp_path, expected, SMALLEST))


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing(tmp_path: Path, expected: bytes) -> None:
    assert survived(worker_death(tmp_path, expected, SMALLEST))


@pytest.mark.slow
def test_a_tracker_that_dies_loses_no_result_and_later_runs_are_logged(tmp_path: Path, expected: bytes) -> None:
    assert survived(tracker_death(tmp_path, expected, SMALLEST))


@pytest.mark.slow
def test_a_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    outcome = soak(tmp_path, runs=16, kills=2)
    assert outcome.kills == 2 and outcome.finished == outcome.runs and outcome.lost == 0
    assert outcome.files == 0


def test_lost_rows_are_those_that_are_absent_or_other() -> None:
    assert lost_rows(b"a\nb\nc\n", b"c\na\nb\n") == 0 and lost_rows(b"a\nb\nc\n", b"a\nB\n") == 2


def test_growth_is_measured_once_a_worker_is_warm() -> None:
    warm = [(run, 100.0 + 5 * run, 5) for run in range(20)]
    assert Watched([*warm, *((run, 200.0, 9) for run in range(20, 100))]).growth() == (0.0, 0)
    leaking = Watched([*warm, *((run, 200.0 + run, 9 + run) for run in range(20, 100))])
    assert leaking.growth() == (70.0, 70)
    assert Watched(warm).growth() is None, "it did not live long enough"


def test_the_page_adds_up() -> None:
    rows = [FaultRow("kill -9", "SIGKILL", 20, 20, 0, "a line"), FaultRow("full disk", "tmpfs", 2, 1, 3, "another")]
    inputs = [InputRow("probe files", 500, 100, 399, 1)]
    text = page(rows, inputs, Soak(200, 6, 7, 200, 0, 4, 1.5, 0, 0, 90.0), ["--kills", "20"])
    assert "`python -m benchmarks.reliability --kills 20`" in text
    assert "22 faults, 21 survived, 3 results lost." in text and "500 inputs, 1 crashes" in text
    assert "200 small runs" in text and "| resident memory | 1.5 MiB |" in text
    assert table(inputs).splitlines()[-1] == "| probe files | 500 | 100 | 399 | 1 |"


def test_fuzzed_inputs_are_rows_of_the_page() -> None:
    rows = input_rows(2, 0)
    assert {row.inputs for row in rows} == set(TARGETS)
    assert all(row.cases == row.accepted + row.refused + row.crashes > 0 for row in rows)


def test_only_what_was_selected_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = FaultRow("kill -9", "SIGKILL", 2, 1, 4, "")
    monkeypatch.setattr(command, "faults", lambda home, count, seed: {"kills": lambda: [row], "full": survived})
    out = tmp_path / "page.md"
    assert command.main(["--only", "kills", "--out", str(out)]) == 1, "something was lost"
    assert "2 faults, 1 survived, 4 results lost" in out.read_text() and "Soak" not in out.read_text()
