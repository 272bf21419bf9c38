"""DARE: drop entries at random, rescale the rest, then merge (arXiv 2311.03099).

Each entry of an expert's update is dropped with probability p, and what stays is divided by 1 − p, so that every
expert keeps its update in expectation. What follows is a mean over the experts or the sign election of TIES. The
paper's third choice, task arithmetic after DARE, is the mean with ``scale`` = λ · N.

Differences from other code, on purpose: with ``then: ties`` nothing is trimmed by magnitude, since the drop has taken
the place of the trim, as in mergekit and PEFT (the authors' code trims after the drop as well, which changes nothing
where more is dropped than would be trimmed). Rescaling is by 1 / (1 − p), as in the paper and PEFT; mergekit
restores the L1 norm of each tensor instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core import torch_rng
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_choice
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.entrywise import elected_mean, merge_entrywise
from esmerge.merging.ops.selection import drop_and_rescale
from esmerge.merging.ops.settings import DeltaSettings

THEN = ("average", "ties")


@dataclass(frozen=True)
class DareSettings(DeltaSettings):
    """Settings of DARE.

    Attributes:
        drop: p, the probability that an entry is dropped. The authors search for it; 0.5 is the middle
            of their grid (0.1, 0.3, 0.5, 0.7, 0.9).
        then: how the experts are merged after the drop: ``average`` or ``ties``.
    """

    drop: float = 0.5
    then: str = "average"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.drop < 1:
            raise ConfigError(f"method.drop={self.drop} must be at least 0 and less than 1")
        check_choice("then", self.then, THEN)


@dataclass(frozen=True)
class DareTiesSettings(DareSettings):
    """DARE followed by the sign election of TIES."""

    then: str = "ties"


@MERGES.register(
    "dare",
    DareSettings,
    MergeInfo(
        title="DARE",
        source="arXiv 2311.03099",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
@MERGES.register(
    "dare_ties",
    DareTiesSettings,
    MergeInfo(
        title="DARE + TIES",
        source="arXiv 2311.03099",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def dare(inputs: MergeInput, settings: DareSettings) -> Merged:
    """Drop and rescale each expert's entries, then take their mean or TIES's elected mean."""

    def rule(module: str, deltas: Tensor) -> Tensor:
        dropped = drop_and_rescale(deltas, settings.drop, uniform_numbers(inputs, module).to(deltas))
        return elected_mean(dropped) if settings.then == "ties" else dropped.mean(dim=0)

    return merge_entrywise(inputs, settings, rule)


def uniform_numbers(inputs: MergeInput, module: str) -> Tensor:
    """One number in [0, 1) per entry of one module's updates, (N, out, in); an expert's depend on its name alone.

    Merges that drop at random share them, so that two such merges differ by their probabilities, not by luck.
    """
    return torch.stack(
        [
            torch_rng.uniform(state.header[module].shape, inputs.seed, "drop", name, module, device=inputs.device)
            for name, state in inputs.experts.items()
        ]
    )
