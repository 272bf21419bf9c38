"""A row per measurement, in a CSV file that grows."""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from pathlib import Path

import pandas as pd
import torch
import transformers


def facts(options: argparse.Namespace) -> dict[str, object]:
    """What was measured, and on what."""
    settings = {name: value for name, value in vars(options).items() if name not in ("out", "one")}
    named = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in settings.items()}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {**named, "cores": os.cpu_count(), "machine": platform.machine(), **versions}


def append(path: Path, row: dict[str, object]) -> None:
    """Add a row to a CSV, which is made if it is not there; beside it, with a number, where its columns are others."""
    chosen, number = path, 1
    while chosen.exists() and list(pd.read_csv(chosen, nrows=0).columns) != list(row):
        number += 1
        chosen = path.with_stem(f"{path.stem}-{number}")
    if chosen != path:
        warnings.warn(f"{path} has other columns: the row is in {chosen}", stacklevel=2)
    chosen.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(chosen, mode="a", header=not chosen.exists(), index=False)
