"""The floor that looks at nothing: always the most frequent answer of the training split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.predictions import predictions, training_answers
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class MajoritySettings:
    """Nothing to set."""


@FLOORS.register("majority", MajoritySettings, ReferenceInfo("Majority class", MethodKind.FLOOR, rank=1))
def majority(settings: MajoritySettings, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """Always the commonest training label; its scores are the labels' (add-one smoothed) training frequencies.

    Raises:
        NotApplicable: the benchmark has no training split.
    """
    counts = np.bincount(training_answers(benchmark, "majority"), minlength=len(benchmark.labels)) + 1
    return predictions(benchmark, np.tile(counts / counts.sum(), (len(benchmark.test), 1)))
