"""How long each stage took, over everything this process did."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS: dict[str, float] = {}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the wall time of a block to a stage; time inside an inner stage counts for that one alone."""
    clock, inner = time.perf_counter(), sum(_SECONDS.values())
    try:
        yield
    finally:
        elapsed = time.perf_counter() - clock - (sum(_SECONDS.values()) - inner)
        _SECONDS[name] = _SECONDS.get(name, 0.0) + elapsed


def seconds() -> dict[str, float]:
    """Stage -> seconds so far, longest first."""
    return dict(sorted(_SECONDS.items(), key=lambda item: -item[1]))
