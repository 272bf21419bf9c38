from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.reliability.fuzzing import fuzz, table
from benchmarks.reliability.hostile import TARGETS, Target
from hypothesis import strategies as st

from esmerge.core.errors import InputError

CASES = {"sweep overrides": 8, "merge overrides": 8}  # composing takes a while; a campaign tries more


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_is_read_or_refused(name: str) -> None:
    figures = fuzz(name, TARGETS[name], CASES.get(name, 60))
    assert not figures.crashes, table([figures])
    assert figures.inputs > 0 and figures.accepted + figures.refused == figures.inputs and figures.refused > 0


def test_a_crash_is_counted_with_its_input_and_where_it_arose() -> None:
    def read(value: int, folder: Path) -> None:
        if value % 3 == 0:
            raise InputError("refused")
        if value % 3 == 1:
            raise ZeroDivisionError

    figures = fuzz("numbers", Target(st.integers(0, 1000), read), 50)
    assert figures.accepted + figures.refused + figures.crashed == figures.inputs >= 50
    assert min(figures.accepted, figures.refused, figures.crashed) > 0
    (crash,) = figures.crashes
    assert crash == f"ZeroDivisionError in {Path(__file__).name}:{read.__code__.co_firstlineno + 4}"
    assert fuzz("numbers", Target(st.integers(0, 1000), read), 50) == figures  # the same command tries the same ones
