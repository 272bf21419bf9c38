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
    with cost() as spent:
        block = np.ones(40 * 2**20 // 8)
        del block
        time.sleep(0.02)
    assert spent.seconds >= 0.02
    assert spent.memory is not None and 30 < spent.memory < 200
    with cost() as nothing:
        pass
    assert nothing.memory is not None and nothing.memory < 20


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library cannot give memory back")
def test_memory_that_was_freed_before_counts_when_it_is_used_again() -> None:
    def blocks() -> list[bytearray]:
        return [bytearray(b"x" * 100_000) for _ in range(400)]  # small enough to stay with the allocator

    held = blocks()
    some = held[::40] + held[-1:]  # the rest lies between these, so it is not given back by itself
    del held
    with cost() as spent:
        held = blocks()
    assert spent.memory is not None and 25 < spent.memory < 200
    assert held and some


def test_where_the_system_does_not_tell_memory_is_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "RESET", tmp_path / "absent" / "clear_refs")
    with cost() as spent:
        pass
    assert spent.memory is None


def test_a_cost_is_stored(tmp_path: Path) -> None:
    save_cost(Cost(1.5, None), tmp_path)
    assert load_cost(tmp_path) == Cost(1.5, None)
