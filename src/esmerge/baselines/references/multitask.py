"""One LoRA trained on the training splits of all benchmarks: what a merge of specialists could be at best."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class MultitaskSettings:
    """How it is trained is part of the specialist set: ``specialists.finetuning``, its steps for each benchmark."""


@REFERENCES.register(
    "multitask", MultitaskSettings, ReferenceInfo("Multi-task", MethodKind.REFERENCE, rank=5, finetuned=True)
)
def multitask(settings: MultitaskSettings, model: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Predictions of one adapter trained on every benchmark of the sweep that has a training split.

    Raises:
        InputError: none of them has.
    """
    return model.predict(model.multitask(), benchmark)
