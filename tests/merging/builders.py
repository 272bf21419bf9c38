"""Random adapters and probe signals for the tests of merges: those of ``esmerge.testing``, by config name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esmerge.adapters.lora import LoraState
from esmerge.merging.api import MERGES, MergeInput
from esmerge.testing.case import Case, cases_of, dense, distance, tolerance
from esmerge.testing.inputs import (
    STATISTIC_MAKERS,
    make_channels,
    make_experts,
    make_fisher,
    make_gram,
    make_signals,
    modules_of,
)

__all__ = [
    "STATISTIC_MAKERS",
    "case_of",
    "cases",
    "default_settings",
    "dense",
    "distance",
    "make_channels",
    "make_experts",
    "make_fisher",
    "make_gram",
    "make_input",
    "make_signals",
    "modules_of",
    "tolerance",
]


def case_of(name: str, space: str, granularity: str | None) -> Case:
    """A registered merge in one of its spaces and granularities."""
    return Case(MERGES.get(name), space, granularity)


def make_input(
    name: str, space: str, granularity: str | None, experts: Mapping[str, LoraState], seed: int = 0
) -> MergeInput:
    """What merge ``name`` needs to run on ``experts``: signals, measures and a task only where it uses them."""
    return case_of(name, space, granularity).inputs(experts, seed)


def cases() -> list[tuple[str, str, str | None]]:
    """Every registered merge in each of its spaces and granularities: (name, space, granularity)."""
    merge_cases = [case for name in MERGES.names() for case in cases_of(MERGES.get(name))]
    return [(case.entry.name, case.space, case.granularity) for case in merge_cases]


def default_settings(name: str, **changes: Any) -> Any:
    """The merge's published settings, with changes."""
    return replace(MERGES.get(name).settings(), **changes)
