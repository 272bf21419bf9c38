"""One merge per file: a pure function ``(MergeInput, settings) -> Merged``, registered under its config name.

Adding one takes a file here, a file in ``conf/method/`` and a test; the registry finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from esmerge.adapters.dense import Update
from esmerge.adapters.experts import ValidatedExperts
from esmerge.adapters.lora import LoraState
from esmerge.calibration.types import Statistics
from esmerge.coefficients.distances import Distances
from esmerge.coefficients.types import Coefficients, ESConfig, Signals
from esmerge.core.devices import CPU
from esmerge.core.methods import MergeInfo
from esmerge.core.registry import Registry


class MergeConfig:
    """What the settings of every merge offer; a merge's settings derive from it.

    Those that merges share (``ConvexSettings``, ``DeltaSettings``) do. A merge also has ``scale``, λ, which multiplies
    the merged task vector, and in delta space ``rank``: ``esmerge.testing.check_merge`` looks at both.
    """

    def folds_scales(self) -> bool:
        """Whether experts of different LoRA scales are accepted in factor space; the merge then folds them into B."""
        return False

    def statistics_settings(self) -> Mapping[str, object]:
        """Name of each statistic that the merge needs -> the settings that it is measured with."""
        return {}


MERGES: Registry[MergeInfo] = Registry("merge", "esmerge.merging.methods", "esmerge.merges", MergeConfig)


@dataclass(frozen=True)
class MergeRequest:
    """What a merge may look at, as it is asked for.

    Attributes:
        experts: name -> adapter, in a fixed order.
        space: ``"factors"`` (combine A and B) or ``"delta"`` (combine scale * B @ A).
        seed: for merges that draw random numbers.
        signals: what the probe left behind; only for merges that read them.
        granularity: only for merges that read them.
        distances: of the signals' responses, if they were measured before; else they are measured when needed.
        measured: measure -> expert -> tensor name -> tensor; only what the merge needs.
        task: experts that the question at hand concerns; only for merges that are made per task.
        device: where the merge is computed, and where its result is.
    """

    experts: Mapping[str, LoraState]
    space: str
    seed: int = 0
    signals: Signals | None = None
    granularity: ESConfig | None = None
    distances: Distances | None = None
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    task: tuple[str, ...] = ()
    device: torch.device = CPU


@dataclass(frozen=True)
class MergeInput(MergeRequest):
    """What a merge is given: a request whose experts fit each other, so that no merge looks again.

    Experts and statistics are on the request's device when they are read.
    """

    experts: ValidatedExperts


@dataclass(frozen=True)
class Merged:
    """A merged adapter or dense updates and, where the merge has them, the coefficients that made it."""

    state: Update
    coefficients: Coefficients | None = None
