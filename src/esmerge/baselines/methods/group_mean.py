"""The floor that only remembers: the training answers of the same drug, protein or cell."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines import floors
from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.baselines.floors.shares import GROUPS
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark
from esmerge.core.validation import at_least


@dataclass(frozen=True)
class GroupMeanSettings:
    """Settings of the means.

    Attributes:
        of: whose means: ``molecule``, ``partner`` or ``both``, added up.
        prior: weight of the overall share, in examples.
    """

    of: str = "both"
    prior: float = 1.0

    def __post_init__(self) -> None:
        at_least(self, "method", 0, "prior")
        if self.of not in GROUPS:
            raise ConfigError(f"method.of={self.of!r}: expected one of {', '.join(GROUPS)}")


@REFERENCES.register("group_mean", GroupMeanSettings, ReferenceInfo("Group mean", MethodKind.FLOOR))
def group_mean(settings: GroupMeanSettings, session: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """The overall share of each label, moved by the shares of the question's own entities in training."""
    return floors.group_mean(benchmark, settings.of, settings.prior)
