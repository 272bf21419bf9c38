"""The floor that looks at nothing: always the most frequent answer of the training split."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from src.evaluation import floors
from src.references import REFERENCES
from src.runs.session import Session
from src.specialists.pieces import Benchmark


@dataclass(frozen=True)
class MajoritySettings:
    """Nothing to set."""


@REFERENCES.register("majority", MajoritySettings, title="Majority class", model=False)
def majority(settings: MajoritySettings, session: Session, benchmark: Benchmark) -> pd.DataFrame:
    """The most frequent training answer for every example."""
    return floors.majority(benchmark)
