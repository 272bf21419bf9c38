"""The average of all specialists, trained on at each benchmark's small training split."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import REFERENCES, ReferenceModel, check_taught
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class AverageFinetunedSettings:
    """How it is trained is part of the specialist set (``specialists.finetuning``) but for its rank, their sum."""


@REFERENCES.register(
    "average_finetuned",
    AverageFinetunedSettings,
    ReferenceInfo("Average, then fine-tuned", MethodKind.REFERENCE, source="arXiv 2603.14405", rank=4, finetuned=True),
)
def average_finetuned(settings: AverageFinetunedSettings, model: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Predictions of ``1/N · Σ ΔW_i`` after training on ``benchmark.train``.

    Raises:
        NotApplicable: the benchmark has no training split.
    """
    check_taught(benchmark)
    return model.predict(model.average_finetuned(benchmark), benchmark)
