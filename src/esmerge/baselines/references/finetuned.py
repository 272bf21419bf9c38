"""A LoRA trained on each benchmark's small training split: what a merge is to do without."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import REFERENCES, ReferenceModel, check_taught
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class FinetunedSettings:
    """How it is trained is part of the specialist set (``specialists.finetuning``)."""


@REFERENCES.register(
    "finetuned", FinetunedSettings, ReferenceInfo("Fine-tuned", MethodKind.REFERENCE, rank=3, finetuned=True)
)
def finetuned(settings: FinetunedSettings, model: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Predictions of an adapter trained on ``benchmark.train``.

    Raises:
        NotApplicable: the benchmark has no training split.
    """
    check_taught(benchmark)
    return model.predict(model.finetuned(benchmark), benchmark)
