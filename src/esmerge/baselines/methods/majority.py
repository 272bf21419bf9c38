"""The floor that looks at nothing: always the most frequent answer of the training split."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines import floors
from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class MajoritySettings:
    """Nothing to set."""


@REFERENCES.register("majority", MajoritySettings, ReferenceInfo("Majority class", MethodKind.FLOOR))
def majority(settings: MajoritySettings, session: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """The most frequent training answer for every example."""
    return floors.majority(benchmark)
