"""Costs: wall time, and the peak beyond what was held before."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import numpy as np
import pytest

from esmerge.core import cost as module
from esmerge.core.cost import Cost, cost, load_cost, save_cost


@pytest.mark.skipif(not module.RESET.exists(), reason="the peak is read from Linux's /proc")
def test_the_peak_counts_what_was_given_back() -> None:
    with cost() as usage:
        block = np.ones(40 * 2**20 // 8)
        del block
        time.sleep(0.02)
    assert usage.seconds >= 0.02
    assert usage.memory is not None and 30 < usage.memory < 200
    with cost() as idle_usage:
        pass
    assert idle_usage.memory is not None and idle_usage.memory < 20


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library cannot give memory back")
def test_memory_that_was_freed_before_counts_when_it_is_used_again() -> None:
    def blocks() -> list[bytearray]:
        return [bytearray(b"x" * 100_000) for _ in range(400)]  # small enough to stay with the allocator

    memory = blocks()
    remainder = memory[::40] + memory[-1:]  # the rest lies between these, so it is not given back by itself
    del memory
    with cost() as usage:
        memory = blocks()
    assert usage.memory is not None and 25 < usage.memory < 200
    assert memory and remainder


def test_where_the_system_does_not_tell_memory_is_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "RESET", tmp_path / "absent" / "clear_refs")
    with cost() as usage:
        pass
    assert usage.memory is None


def test_a_cost_is_stored(tmp_path: Path) -> None:
    save_cost(Cost(1.5, None), tmp_path)
    assert load_cost(tmp_path) == Cost(1.5, None)
