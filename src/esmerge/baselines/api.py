"""What stands beside the merges in every table: the bare backbone, each specialist, a fine-tuned LoRA, and floors.

A reference is a function ``(settings, model, benchmark) -> predictions`` registered under its config name. It may
raise ``NotApplicable`` for a benchmark that it has no answer to; the table then shows an empty cell.
"""

from __future__ import annotations

from typing import Any, Protocol

import pandas as pd

from esmerge.core.errors import NotApplicable
from esmerge.core.methods import ReferenceInfo
from esmerge.core.prompts import Benchmark
from esmerge.core.registry import Registry

REFERENCES: Registry[ReferenceInfo] = Registry("reference", "esmerge.baselines.methods", "esmerge.references")

__all__ = ["REFERENCES", "NotApplicable", "ReferenceModel"]


class ReferenceModel(Protocol):
    """What a reference may ask."""

    sweep: Any
    specialists: Any

    def ask(self, adapter: Any, benchmark: Benchmark) -> pd.DataFrame:
        """Predictions of the backbone under an adapter."""

    def finetuned(self, benchmark: Benchmark) -> Any:
        """An adapter trained on a benchmark's training split."""
