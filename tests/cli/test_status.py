"""A sweep's progress as people see it: a live table on a terminal, lines elsewhere, and from another shell."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from esmerge.cli import status
from esmerge.cli.progress_table import duration, progress_line, progress_table
from esmerge.cli.showing import PlainLines
from esmerge.storage.files import write_json
from esmerge.tracking.planned import SweepPlan, write_plan
from esmerge.tracking.store import RunFolder
from esmerge.tracking.survey import Surveyor

KINDS = {"majority-s0": "floor", "ties-s0": "merge", "es-s0": "merge", "average-s0": "merge"}


@pytest.fixture()
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "main"
    write_plan(folder, SweepPlan("2020-01-01T00:00:00+00:00", KINDS))
    write_json(folder / "majority-s0" / "status.json", {"state": "done", "seconds": 1.0})
    write_json(folder / "ties-s0" / "status.json", {"state": "failed", "reason": "ValueError: [no] rank"})
    write_json(folder / "es-s0" / "status.json", {"state": "running", "started": "2099-01-01T00:00:00+00:00"})
    write_json(folder / "es-s0" / "step.json", {"title": "probe", "done": 3, "total": 10})
    return folder


def test_the_table_counts_and_names(sweep: Path) -> None:
    screen = Console(file=io.StringIO(), width=100)
    with RunFolder(sweep / "es-s0").lock():
        screen.print(progress_table(Surveyor(sweep).look()))
    output = screen.file.getvalue()  # type: ignore[attr-defined]
    assert all(word in output for word in ("done", "running", "failed", "remaining", "time left", "going on"))
    assert "running es-s0 0 s: probe 3 of 10" in output and "failed ties-s0 ?: ValueError: [no] rank" in output
    assert "about 2 s" in output


def test_the_other_shell_reads_it_from_disk(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["status", f"outputs={sweep.parent}"])
    with RunFolder(sweep / "es-s0").lock():
        status.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{sweep}: going on; elapsed ")
    assert lines[1] == "runs: 1 done, 1 running, 1 failed, 1 remaining; time left about 2 s"
    status.main()  # the process that ran es-s0 is gone
    lines = capsys.readouterr().out.splitlines()
    assert "stopped half-way" in lines[0] and lines[1].startswith("runs: 1 done, 0 running, 2 failed, 1 remaining")


def test_watching_ends_with_the_sweep(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["status", f"folder={sweep}", "watch=true"])
    status.main()
    assert capsys.readouterr().out.startswith("runs: 1 done, 0 running, 2 failed, 1 remaining")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["folder=nowhere"], "there is no sweep folder 'nowhere'"), (["watch=2"], "watch=2: expected true or false")],
)
def test_what_cannot_be_shown_is_named(
    overrides: list[str], message: str, sweep: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["status", f"outputs={sweep.parent}", *overrides])
    with pytest.raises(SystemExit, match=message):
        status.main()


def test_without_a_terminal_there_is_a_line_for_each_change(sweep: Path) -> None:
    stream = io.StringIO()
    lines = PlainLines(sweep, stream)
    surveyor = Surveyor(sweep)
    lines._print(surveyor)
    lines._print(surveyor)
    write_json(sweep / "average-s0" / "status.json", {"state": "done", "seconds": 1.0})
    lines._print(surveyor)
    assert stream.getvalue().splitlines() == [
        "runs: 1 done, 0 running, 2 failed, 1 remaining; time left about 1 s",
        "runs: 2 done, 0 running, 2 failed, 0 remaining",
    ]


def test_of_a_search_nobody_knows_how_many_runs_remain(tmp_path: Path) -> None:
    write_plan(tmp_path, SweepPlan("2020-01-01T00:00:00+00:00", is_search=True))
    assert progress_line(Surveyor(tmp_path).look()).startswith("runs: 0 done, 0 running, 0 failed, ? remaining")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (12.4, "12 s"), (187.0, "3 min 07 s"), (7500.0, "2 h 05 min")]
)
def test_durations_are_read_at_a_glance(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


LIVE = """
import sys, warnings
from pathlib import Path
from esmerge.cli.showing import showing
from esmerge.core.progress import progress, say
assert "torch" not in sys.modules
with showing(Path(sys.argv[1]), sys.stderr):
    with progress("a bar that would be drawn over the table", 3) as bar:
        bar.update(3)
    say("said between")
    print("to standard output")
"""


def test_on_a_terminal_one_table_stands_below_what_is_printed(sweep: Path) -> None:
    terminal, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100"}
    command = [sys.executable, "-c", LIVE, str(sweep)]
    with subprocess.Popen(command, stderr=side, stdout=subprocess.PIPE, env=environment) as process:
        os.close(side)
        output = b""
        while chunk := _read(terminal):
            output += chunk
        assert process.stdout is not None and process.stdout.read() == b"to standard output\n"
    os.close(terminal)
    assert process.returncode == 0, output.decode()
    assert b"said between" in output and b"a bar that would" not in output
    assert output.index(b"said between") < output.rindex(b"time left") and b"remaining" in output


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # its other side is closed
        return b""
