"""Runs parts one after the other, each in a process of its own, inside its own limit and that of the whole."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu.parts import Part
from benchmarks.gpu.report import Record, read_records

PASSED, FAILED, STOPPED, NOT_REACHED, RUNNING = "passed", "failed", "stopped", "not reached", "running"
LEAST = 3.0  # seconds with which a part is begun
LAST_LINES = 12  # of a failed part's log


@dataclass
class Outcome:
    """What became of a part.

    Attributes:
        state: ``passed``, ``failed``, ``stopped`` at its limit, or ``not reached``.
        seconds: that it took.
        limit: that it had.
        fault: the last lines of an error.
        records: what it told.
    """

    part: Part
    state: str = NOT_REACHED
    seconds: float = 0.0
    limit: float = 0.0
    fault: str = ""
    records: list[Record] = field(default_factory=list)


@dataclass
class Runner:
    """How parts are run.

    Attributes:
        work: folder for records and logs.
        device: that is checked.
        small: tiny shapes.
        budget: seconds of the whole.
        on_change: told of the outcomes after every part and, now and then, while one runs.
    """

    work: Path
    device: str
    small: bool
    budget: float
    on_change: Callable[[list[Outcome]], None]
    _start: float = field(default_factory=time.monotonic)

    def run(self, parts: Sequence[Part]) -> list[Outcome]:
        """Run all parts that the budget reaches; while one runs, the next one imports what it needs."""
        outcomes = [Outcome(part) for part in parts]
        processes: list[subprocess.Popen[str]] = []
        try:
            for number, outcome in enumerate(outcomes):
                processes += [self._process(part) for part in parts[len(processes) : number + 2]]
                ready = _is_ready(processes[number], self._left())
                last = number == len(outcomes) - 1  # it may take the time that the others have left over
                outcome.limit = round(self._left() if last else min(outcome.part.limit(self.small), self._left()), 1)
                if outcome.limit < LEAST:
                    outcome.limit = 0.0
                    break
                self._carry_out(processes[number], outcome, outcomes, ready)
                self.on_change(outcomes)
        finally:
            for process in processes:
                _end(process)
        self.on_change(outcomes)
        return outcomes

    def _left(self) -> float:
        return self.budget - (time.monotonic() - self._start)

    def _process(self, part: Part) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.gpu.part", part.module, str(self._records(part)), str(self.work)]
        command += ["--device", self.device, *(["--small"] if self.small else [])]
        with self._log(part).open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )

    def _carry_out(
        self, process: subprocess.Popen[str], outcome: Outcome, outcomes: list[Outcome], ready: bool
    ) -> None:
        """Let a process begin that has imported what it needs, and wait for its end or its limit."""
        start = time.monotonic()
        outcome.state = RUNNING
        if ready:
            with suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.write(f"{outcome.limit}\n")
                process.stdin.flush()
        while (remaining := outcome.limit - (time.monotonic() - start)) > 0:
            try:
                process.wait(min(remaining, 5.0))
                break
            except subprocess.TimeoutExpired:
                self._look(outcome, start)
                self.on_change(outcomes)
        code = process.poll()
        _end(process)
        self._look(outcome, start)
        self._judge(outcome, code)

    def _look(self, outcome: Outcome, start: float) -> None:
        outcome.seconds = round(time.monotonic() - start, 1)
        outcome.records = read_records(self._records(outcome.part))

    def _judge(self, outcome: Outcome, code: int | None) -> None:
        checks_hold = all(record["passed"] for record in outcome.records if record["kind"] == "check")
        if code is None:
            outcome.state = STOPPED if checks_hold else FAILED
        else:
            outcome.state = PASSED if code == 0 and checks_hold else FAILED
        if code is not None and code != 0 and checks_hold:
            lines = self._log(outcome.part).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            outcome.fault = f"exit code {code}\n" + "\n".join(lines[-LAST_LINES:])

    def _records(self, part: Part) -> Path:
        return self.work / f"{part.name}.jsonl"

    def _log(self, part: Part) -> Path:
        return self.work / f"{part.name}.log"


def _is_ready(process: subprocess.Popen[str], seconds: float) -> bool:
    """Whether a part says within some time that its imports are done; it does not where they fail."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], max(0.0, seconds))
    return bool(readable and process.stdout.readline())


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
