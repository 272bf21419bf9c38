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


@REFERENCES.register("expert", ExpertSettings, ReferenceInfo("Specialist", MethodKind.REFERENCE))
def expert(settings: ExpertSettings, session: ReferenceModel, benchmark: Benchmark) -> pd.DataFrame:
    """Predictions under one specialist's adapter."""
    known = session.specialists.adapters
    if settings.expert is None or settings.expert not in known:
        raise ConfigError(f"method.expert={settings.expert!r}: expected one of {', '.join(known)}")
    return session.ask(known[settings.expert], benchmark)
