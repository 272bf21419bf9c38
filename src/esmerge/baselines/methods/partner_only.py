"""The floor that looks at everything but the drug: the protein's or the cell's own share of the answer."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines import floors
from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class PartnerOnlySettings:
    """Nothing to set."""


@REFERENCES.register("partner_only", PartnerOnlySettings, ReferenceInfo("Partner only", MethodKind.FLOOR))
def partner_only(settings: PartnerOnlySettings, session: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Logistic regression on the proteins or cells of the training split."""
    return floors.partner_only(benchmark)
