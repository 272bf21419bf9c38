"""One specialist: its adapter alone, with every encoder."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from esmerge.baselines.api import REFERENCES, ReferenceModel
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MethodKind, ReferenceInfo
from esmerge.core.prompts import Benchmark


@dataclass(frozen=True)
class ExpertSettings:
    """Which specialist; None stands for each of them in a list of references."""

    expert: str | None = None


@REFERENCES.register("expert", ExpertSettings, ReferenceInfo("Specialist", MethodKind.REFERENCE, rank=2))
def expert(settings: ExpertSettings, model: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Predictions under one specialist's adapter.

    Raises:
        ConfigError: there is no such specialist.
    """
    if settings.expert is None or settings.expert not in model.adapters:
        raise ConfigError(f"method.expert={settings.expert!r}: expected one of {', '.join(model.adapters)}")
    return model.predict(model.adapters[settings.expert], benchmark)
