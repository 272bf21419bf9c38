"""The floor that looks at the drug alone: what an interaction benchmark gives away without the interaction."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from src.evaluation import floors
from src.references import REFERENCES, NotApplicable
from src.runs.session import Session
from src.specialists.pieces import Benchmark


@dataclass(frozen=True)
class DrugOnlySettings:
    """Which modality is looked at."""

    modality: str = "molecule"


@REFERENCES.register("drug_only", DrugOnlySettings, title="Drug only", model=False)
def drug_only(settings: DrugOnlySettings, session: Session, benchmark: Benchmark) -> pd.DataFrame:
    """Logistic regression on the molecules' fingerprints."""
    if not benchmark.train or not benchmark.test[0].entities(settings.modality):
        raise NotApplicable(f"benchmark {benchmark.name} shows no {settings.modality}, or has no training split")
    return floors.single_modality(benchmark, settings.modality)
