from __future__ import annotations

import pytest
from tests.conftest import composed

from esmerge.experiment.config import read_sweep
from esmerge.experiment.plan import plan


def names(*overrides: str) -> list[str]:
    return [spec.name for spec in plan(read_sweep(composed(*overrides)))]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["benchmark.shots=3"], "3shots"),
        (["benchmark.shots=3", "benchmark.shot_choice=auto"], "3shots"),
        (["benchmark.shots=5", "benchmark.shot_choice=random"], "5shots-random"),
        (["benchmark=human", "benchmark.root=x", "benchmark.shots=2"], "2shots"),
    ],
)
def test_shots_are_part_of_every_runs_name(overrides: list[str], part: str) -> None:
    found = names(*overrides)
    assert all(f"-{part}-s0-" in name for name in found) and len(set(found)) == len(found)


@pytest.mark.parametrize("overrides", [[], ["benchmark.shots=0"], ["benchmark.shot_choice=random"]])
def test_without_shots_a_name_says_nothing_of_them(overrides: list[str]) -> None:
    assert not any("shot" in name for name in names(*overrides))
