"""Asked to end by a signal, as schedulers do before they take a machine back: what is at hand is kept, then it ends.

``stop_on_signals`` makes an exception of SIGTERM and SIGUSR1; a command that is ``stoppable`` ends by it with an exit
code of its own. ``deferred_signals`` holds signals back where work must not be torn apart, so that it can be stored
first; whoever had handled them handles them then.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import FrameType
from typing import NoReturn

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
DEFERRED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
INTERRUPTED = 130  # exit code of a command that Ctrl-C ended, as shells have it
RESUMABLE = 75  # exit code of a command that was stopped and goes on when it is started again (EX_TEMPFAIL)


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; like Ctrl-C, it is no failure of what was being done."""


def stoppable(main: Callable[[], object]) -> Callable[[], None]:
    """A command that signals end in one line, once it has stored and said what it can.

    The exit code is ``RESUMABLE`` after SIGTERM and SIGUSR1, ``INTERRUPTED`` after Ctrl-C.
    """

    @wraps(main)
    def command() -> None:
        with stop_on_signals() as received:
            try:
                main()
            except (Stopped, SystemExit) as ending:
                if not received:
                    raise
                print(f"{ending} ({received[0]}, exit code {RESUMABLE})", file=sys.stderr)
                sys.exit(RESUMABLE)
            except KeyboardInterrupt:
                print(f"stopped by Ctrl-C (exit code {INTERRUPTED}); what is stored stays", file=sys.stderr)
                sys.exit(INTERRUPTED)

    return command


@contextmanager
def stop_on_signals() -> Iterator[list[str]]:
    """While it lasts, SIGTERM and SIGUSR1 raise ``Stopped``; a handler that somebody else set stays.

    Yields the names of the signals that came.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # where Python lets nobody set handlers
        yield received
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        received.append(signal.Signals(number).name)
        raise Stopped(f"the process was asked to end by {received[-1]}")

    default = [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]
    for number in default:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number in default:
            signal.signal(number, signal.SIG_DFL)


@dataclass
class DeferredSignals:
    """Signals that came and wait.

    Attributes:
        waiting: their numbers, in order.
    """

    waiting: list[int] = field(default_factory=list)
    _handlers: dict[int, object] = field(default_factory=dict, repr=False)

    def deliver(self) -> None:
        """Let those handle the waiting signals who did before; what their handlers raise is raised here."""
        while self.waiting:
            number = self.waiting.pop(0)
            _handle(number, self._handlers[number])

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in self.waiting:  # asked twice: at once
            self.deliver()
        self.waiting.append(number)


@contextmanager
def deferred_signals() -> Iterator[DeferredSignals]:
    """Hold SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 back until ``deliver`` is called or the block ends.

    The same signal a second time is handled at once. In other threads than the main one nothing is held back.
    """
    signals = DeferredSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    for number in DEFERRED:
        signals._handlers[number] = signal.signal(number, signals._note)
    try:
        yield signals
    finally:
        _restore(signals._handlers)
        signals.deliver()  # also where the block raised: what asked to end must not be forgotten


def _restore(handlers: dict[int, object]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # None: set outside Python, which cannot put it back
            signal.signal(number, handler)  # type: ignore[arg-type]


def _handle(number: int, handler: object) -> None:
    if callable(handler):
        handler(number, None)
    elif handler is signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
