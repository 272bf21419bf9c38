"""How many CPU threads torch uses: measured, since beside other work two may be many times slower than one.

Threads wait for one another after every operation. Where another process has taken one's core, all the others wait for
its turn there; small operations then take as long as the system's time slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from esmerge.core.errors import ConfigError
from esmerge.core.timing import stage

AUTO = "auto"
Threads = int | str | None
"""A number of threads, ``auto`` to measure, or None for torch's own choice."""

SECONDS = 1.0  # that a measurement takes
SLICE = 0.04  # seconds for which one number of threads is tried at a time
GAIN = 1.1  # times as fast must more threads be
HOPELESS = 2.0  # times as slow as the best, and a number of threads is not tried again
FIRST_PERIOD, LONGEST_PERIOD = 15.0, 120.0  # seconds from one measurement to the next in long stages
SLOWER, STEPS = 3.0, 3  # times as long as usual must so many steps in a row take, for a measurement out of turn
PAUSE = 3.0  # seconds between two measurements at least


class ThreadChooser:
    """Chooses the number of threads with which a small piece of work is fastest, again and again.

    Args:
        most: threads that may be used.
        try_threads: (threads, seconds) -> seconds that one piece of work takes with so many threads, tried for about so
            long.
        set_threads: makes a choice hold.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        most: int,
        try_threads: Callable[[int, float], float],
        set_threads: Callable[[int], object] = torch.set_num_threads,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._candidates = thread_counts(most)
        self._try, self._set, self._clock = try_threads, set_threads, clock
        self._period = FIRST_PERIOD
        self._usual = 0.0  # seconds of a step
        self._slow_steps = 0
        self.threads = self.measure()

    def measure(self) -> int:
        """Measure for about a second, and use the number of threads that is best now."""
        if len(self._candidates) > 1:
            with stage("threads"):
                best = fewest_of_the_fastest(self._seconds())
        else:
            best = self._candidates[0]
        self._set(best)
        self.threads = best
        self._measured = self._last = self._clock()
        self._slow_steps = 0
        return best

    def after_step(self) -> None:
        """Measure again if it is time, or if steps have become much slower; long stages call it after every step."""
        now = self._clock()
        self._note_step(now - self._last)
        self._last = now
        age = now - self._measured
        out_of_turn = self._slow_steps >= STEPS and age > PAUSE
        if len(self._candidates) > 1 and (out_of_turn or age > self._period):
            before = self.threads
            steady = self.measure() == before and not out_of_turn
            self._period = min(2 * self._period, LONGEST_PERIOD) if steady else FIRST_PERIOD
            self._usual = 0.0  # of the new number of threads

    def _note_step(self, seconds: float) -> None:
        if self._usual and seconds > SLOWER * self._usual:
            self._slow_steps += 1
            return
        self._slow_steps = 0
        self._usual = 0.8 * self._usual + 0.2 * seconds if self._usual else seconds

    def _seconds(self) -> dict[int, float]:
        """Threads -> seconds of a piece of work, the least of several tries in turns."""
        least: dict[int, float] = {}
        end = self._clock() + SECONDS
        tried: Sequence[int] = self._candidates
        while True:
            for threads in tried:
                seconds = self._try(threads, SLICE)
                least[threads] = min(seconds, least.get(threads, seconds))
            if self._clock() >= end:
                return least
            tried = [threads for threads in tried if least[threads] < HOPELESS * min(least.values())]


def thread_counts(most: int) -> list[int]:
    """1, 2, 4, … up to ``most``, and ``most`` itself."""
    return sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})


def fewest_of_the_fastest(seconds: dict[int, float]) -> int:
    """The fewest threads that no other number beats by more than ``GAIN``."""
    return min(threads for threads, value in seconds.items() if value <= GAIN * min(seconds.values()))


def seconds_with(threads: int, limit: float) -> float:
    """Mean seconds of a piece of work with so many threads, over about ``limit`` seconds."""
    torch.set_num_threads(threads)
    inputs, weights = _matrices()
    _piece(inputs, weights)  # the threads are started
    start, pieces = time.perf_counter(), 0
    while time.perf_counter() - start < limit:
        _piece(inputs, weights)
        pieces += 1
    return (time.perf_counter() - start) / pieces


_CHOOSERS: list[ThreadChooser] = []  # at most one: threads are the process's


def check_threads(threads: object, path: str) -> None:
    """Raise ``ConfigError`` unless a setting is a number of threads, ``auto`` or None."""
    number = isinstance(threads, int) and not isinstance(threads, bool) and threads >= 1
    if threads not in (None, AUTO) and not number:
        raise ConfigError(f"{path}={threads!r}: expected an integer from 1, {AUTO}, or null for torch's own choice")


def use_threads(threads: Threads, device: str = "cpu") -> None:
    """Let torch use so many threads from now on.

    ``auto`` measures, within what torch or ``OMP_NUM_THREADS`` allow, and measures again in long stages; where models
    run on another device than the CPU it leaves torch's own choice.
    """
    if threads == AUTO and device == "cpu":
        if _CHOOSERS:
            _CHOOSERS[0].after_step()
        else:
            _CHOOSERS.append(ThreadChooser(torch.get_num_threads(), seconds_with))
        return
    _CHOOSERS.clear()
    if isinstance(threads, int):
        torch.set_num_threads(threads)


def after_step() -> None:
    """Tell that a step of a long stage is over: the number of threads may change now, if it is ``auto``."""
    for chooser in _CHOOSERS:
        chooser.after_step()


def _matrices() -> tuple[Tensor, list[Tensor]]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(128, 256), (256, 128)]
    return torch.randn(512, 128, generator=draw), [torch.randn(shape, generator=draw) / 16 for shape in shapes]


def _piece(inputs: Tensor, weights: list[Tensor]) -> None:
    """A few small layers, forwards and backwards: as a small backbone's, many short operations."""
    trained = [weight.requires_grad_() for weight in weights]
    hidden = inputs
    with torch.enable_grad():
        for _ in range(2):
            hidden = hidden + functional.gelu(functional.layer_norm(hidden, (128,)) @ trained[0]) @ trained[1]
        hidden.square().mean().backward()
    for weight in trained:
        weight.grad = None
