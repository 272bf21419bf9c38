"""A row per measurement, in a CSV file that grows."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import pandas as pd
import torch
import transformers

from src.errors import StoreError


def facts(asked: argparse.Namespace) -> dict[str, object]:
    """What was measured, and on what."""
    given = {name: value for name, value in vars(asked).items() if name not in ("out", "one")}
    named = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in given.items()}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {**named, "cores": os.cpu_count(), "machine": platform.machine(), **versions}


def append(path: Path, row: dict[str, object]) -> None:
    """Add a row to a CSV, which is made if it is not there; ``StoreError`` if its columns are others."""
    if path.exists() and (found := list(pd.read_csv(path, nrows=0).columns)) != list(row):
        raise StoreError(f"{path} has the columns {found}, expected {list(row)}: give another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)
