"""Training that is stopped in the middle, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from esmerge.model import training
from esmerge.specialists.specialists import Specialists


class Stopped(Exception):
    """What is raised in the middle of training."""


def resumed(
    load: Callable[[], Specialists], stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Specialists, int]:
    """What a second loading gives after the first was stopped, and how many steps it took itself."""
    update, steps = training._update, iter(range(1000))

    def stopping(*args: Any) -> None:
        if next(steps) == stop_after:
            raise Stopped
        update(*args)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_update", stopping)
        with pytest.raises(Stopped):
            load()
    calls: list[None] = []
    monkeypatch.setattr(training, "_update", lambda *args: (calls.append(None), update(*args))[1])
    return load(), len(calls)
