"""Inputs from outside that are fuzzed, as rows of the page."""

from __future__ import annotations

from benchmarks.reliability.fuzzing import campaign
from benchmarks.reliability.rows import InputRow


def input_rows(cases: int, seed: int) -> list[InputRow]:
    """What became of so many inputs of each kind."""
    return [
        InputRow(figures.target, figures.inputs, figures.accepted, figures.refused, figures.crashed)
        for figures in campaign(cases, seed)
    ]
