"""The floor that looks at every entity but adds up what each of them tells: no interaction."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.classifiers import linear
from esmerge.baselines.ops.modalities import modalities
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark
from esmerge.core.validation import above_zero


@dataclass(frozen=True)
class LogisticRegressionSettings:
    """``c``: inverse strength of the L2 penalty."""

    c: float = 1.0

    def __post_init__(self) -> None:
        above_zero(self, "method", "c")


@FLOORS.register(
    "logistic_regression",
    LogisticRegressionSettings,
    ReferenceInfo("Logistic regression", MethodKind.FLOOR, rank=5),
)
def logistic_regression(settings: LogisticRegressionSettings, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """Logistic regression on fingerprints, protein 3-mers and genes of the training split.

    Raises:
        NotApplicable: the benchmark holds no entities, or has no training split.
    """
    return linear(benchmark, modalities(benchmark), settings.c, spread=True)
