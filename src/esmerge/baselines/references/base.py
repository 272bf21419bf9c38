"""The backbone with every encoder and no adapter."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class BaseSettings:
    """The bare backbone has nothing to set."""


@REFERENCES.register("base", BaseSettings, ReferenceInfo("Base model", MethodKind.REFERENCE, rank=1))
def base(settings: BaseSettings, model: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Predictions without any adapter."""
    return model.predict(None, benchmark)
