"""Who listens hears of every training of this process: when it begins, the loss of each step, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Training:
    """A training that begins, or goes on after an interruption.

    Attributes:
        title: what is trained.
        steps: number of updates.
        batch: examples of each update; 0 where nobody says so.
        losses: of the updates before the interruption.
        checkpoint: folder that keeps its state; named like the folder that its result goes to, plus ``.partial``.
    """

    title: str
    steps: int
    batch: int = 0
    losses: tuple[float, ...] = ()
    checkpoint: Path | None = None


Tell = Callable[[int, float], None]
"""Hears of a step by its number, from 0, and its loss."""
Observer = Callable[[Training], AbstractContextManager[Tell]]
"""Lasts as long as the training, whose error passes through it; has no errors of its own."""

_OBSERVERS: list[Observer] = []


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """While it lasts, ``observer`` hears of every training of this process."""
    _OBSERVERS.append(observer)
    try:
        yield
    finally:
        _OBSERVERS.remove(observer)


@contextmanager
def observed(training: Training) -> Iterator[Tell]:
    """A training that tells its observers of every step."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(observer(training)) for observer in _OBSERVERS]

        def tell(step: int, loss: float) -> None:
            for listener in listeners:
                listener(step, loss)

        yield tell
