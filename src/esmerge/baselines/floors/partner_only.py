"""The floor that looks at everything but the drug: the protein's or the cell's own share of the answer."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import FLOORS
from esmerge.baselines.ops.classifiers import linear
from esmerge.baselines.ops.modalities import partner_modalities
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class PartnerOnlySettings:
    """Nothing to set."""


@FLOORS.register("partner_only", PartnerOnlySettings, ReferenceInfo("Partner only", MethodKind.FLOOR, rank=4))
def partner_only(settings: PartnerOnlySettings, benchmark: Benchmark, seed: int) -> pd.DataFrame:
    """Logistic regression on the proteins or cells of the training split.

    Raises:
        NotApplicable: the benchmark holds molecules only, or has no training split.
    """
    return linear(benchmark, partner_modalities(benchmark, "partner_only"))
