"""Calls ``python -m src.sweep`` inside the test's own process."""

from __future__ import annotations

import sys

import pytest

import esmerge.cli.sweep
from esmerge.tracking import callback


def run_sweep(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    """Run the command with these words; returns what the process would exit with."""
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    monkeypatch.setattr(callback, "_FOLDERS", [])  # of the sweep before
    with pytest.raises(SystemExit) as exit_info:
        esmerge.cli.sweep.main()
    return exit_info.value.code
