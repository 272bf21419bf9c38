"""What stands beside the merges in every table: floors, the bare backbone, each specialist, a fine-tuned LoRA.

A floor is a function ``(settings, benchmark, seed) -> predictions``: it needs no language model, and this module loads
none. A reference is a function ``(settings, model, benchmark) -> predictions``. Both are registered under their config
name, one per file. Either may raise ``NotApplicable`` for a benchmark that it has no answer to; the table then shows an
empty cell. Predictions are a table with the columns that ``baselines.ops.predictions`` lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from esmerge.core.errors import NotApplicable
from esmerge.core.methods import ReferenceInfo
from esmerge.core.prompts import Benchmark
from esmerge.core.registry import Registry

if TYPE_CHECKING:  # a floor runs without torch
    from esmerge.adapters.dense import Update
    from esmerge.adapters.lora import LoraState

FLOORS: Registry[ReferenceInfo] = Registry("floor", "esmerge.baselines.floors", "esmerge.floors")
REFERENCES: Registry[ReferenceInfo] = Registry("reference", "esmerge.baselines.references", "esmerge.references")


def check_taught(benchmark: Benchmark) -> None:
    """Raise ``NotApplicable`` where a benchmark has no training split to fine-tune on."""
    if not benchmark.train:
        raise NotApplicable(f"benchmark {benchmark.name!r} has no training split to fine-tune on")


class ReferenceModel(Protocol):
    """The language model as a reference sees it."""

    @property
    def adapters(self) -> Mapping[str, LoraState]:
        """Expert name -> its adapter."""

    def predict(self, adapter: Update | None, benchmark: Benchmark) -> pd.DataFrame:
        """Predictions of the backbone under an adapter, or of the bare one (None), on a benchmark's test split."""

    def finetuned(self, benchmark: Benchmark) -> LoraState:
        """An adapter trained on a benchmark's training split."""

    def average_finetuned(self, benchmark: Benchmark) -> LoraState:
        """The average of all adapters, trained on at a benchmark's training split."""

    def multitask(self) -> LoraState:
        """One adapter trained on the training splits of all benchmarks."""
