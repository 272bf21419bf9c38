"""The floor that looks at the drug alone: what an interaction benchmark gives away without the interaction."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.classifiers import linear
from esmerge.baselines.ops.modalities import DRUG
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class DrugOnlySettings:
    """Nothing to set."""


@FLOORS.register("drug_only", DrugOnlySettings, ReferenceInfo("Drug only", MethodKind.FLOOR, rank=3))
def drug_only(settings: DrugOnlySettings, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """Logistic regression on the molecules of the training split.

    Raises:
        NotApplicable: the benchmark holds no molecules, or has no training split.
    """
    return linear(benchmark, (DRUG,))
