"""Inputs from outside that are fuzzed: each source is a function that returns its rows."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.reliability.rows import InputRow

SOURCES: tuple[Callable[[], list[InputRow]], ...] = ()


def input_rows() -> list[InputRow]:
    """The rows of every source, in their order."""
    return [row for source in SOURCES for row in source()]
