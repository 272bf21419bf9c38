"""The backbone with every encoder and no adapter."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from src.references import REFERENCES
from src.runs.session import Session
from src.specialists.pieces import Benchmark


@dataclass(frozen=True)
class BaseSettings:
    """The bare backbone has nothing to set."""


@REFERENCES.register("base", BaseSettings, title="Base LLM", model=True)
def base(settings: BaseSettings, session: Session, benchmark: Benchmark) -> pd.DataFrame:
    """Predictions without any adapter."""
    return session.ask(None, benchmark)
