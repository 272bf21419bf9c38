"""The floor that looks at the drug alone: what an interaction benchmark gives away without the interaction."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines import floors
from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class DrugOnlySettings:
    """Nothing to set."""


@REFERENCES.register("drug_only", DrugOnlySettings, ReferenceInfo("Drug only", MethodKind.FLOOR))
def drug_only(settings: DrugOnlySettings, session: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Logistic regression on the molecules of the training split."""
    return floors.drug_only(benchmark)
