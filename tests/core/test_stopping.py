from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from esmerge.core.stopping import Stopped, deferred_signals, stop_on_signals, stoppable


@pytest.fixture(autouse=True)
def unchanged_handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_raises_and_says_which(number: signal.Signals) -> None:
    with pytest.raises(Stopped, match=number.name) as stopped, stop_on_signals():
        os.kill(os.getpid(), number)
    assert not isinstance(stopped.value, Exception)  # no `except Exception` takes it for a failure of one run
    assert str(pickle.loads(pickle.dumps(stopped.value))) == str(stopped.value)  # it crosses from a worker process


def test_a_handler_of_somebody_else_stays() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    try:
        with stop_on_signals(), stop_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert calls == [signal.SIGTERM]


def test_a_deferred_signal_waits_for_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(Stopped), stop_on_signals():
        with deferred_signals() as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append(list(signals.waiting))
        steps.append([])
    assert steps == [[signal.SIGTERM]]


def test_a_deferred_signal_is_delivered_on_demand_and_a_handler_may_go_on() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: calls.append(number))
    try:
        with deferred_signals() as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert not calls
            signals.deliver()
            assert calls == [signal.SIGUSR2] and not signals.waiting
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_is_not_lost_where_the_block_fails() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError


def test_the_second_ctrl_c_does_not_wait() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert not reached


def test_a_signal_that_nobody_handles_still_ends_the_process() -> None:
    script = (
        "import os, signal\nfrom esmerge.core.stopping import deferred_signals\nwith deferred_signals():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    print('stored', flush=True)\nprint('never')"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGTERM and process.stdout == "stored\n"


def test_in_other_threads_nothing_is_held_back() -> None:
    steps = []

    def work() -> None:
        with stop_on_signals(), deferred_signals() as signals:
            signals.deliver()
            steps.append(signals.waiting)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert steps == [[]]


def test_ctrl_c_ends_a_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @stoppable
    def command() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(SystemExit) as error:
        command()
    assert error.value.code == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C (exit code 130); what is stored stays\n"
