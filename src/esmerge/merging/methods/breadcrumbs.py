"""Model Breadcrumbs: drop the largest and the smallest entries, then task arithmetic (arXiv 2312.06795).

The authors' code ranks the entries within each row of a weight matrix, and so does ``within: row``; mergekit ranks them
within the whole matrix, as ``within: matrix`` does here.

Differences from other code, on purpose: ``beta`` is the share of the smallest entries that is dropped (in the authors'
code ``beta`` is the share that is kept once the largest ``gamma`` are gone; mergekit calls that share ``density``), and
both counts of dropped entries are rounded down, so that no row is emptied.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_choice
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.entrywise import merge_entrywise
from esmerge.merging.ops.settings import DeltaSettings

WITHIN = ("row", "matrix")


@dataclass(frozen=True)
class BreadcrumbsSettings(DeltaSettings):
    """Settings of Model Breadcrumbs. The defaults are the values from which the authors' code starts its search.

    Attributes:
        scale: λ.
        beta: share of the smallest entries that is dropped; 0.844 with ``gamma`` = 0.006 keeps 15 %.
        gamma: share of the largest entries that is dropped.
        within: entries are ranked within each ``row`` of an update or within the whole ``matrix``.
    """

    scale: float = 0.2
    beta: float = 0.844
    gamma: float = 0.006
    within: str = "row"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.beta >= 0 and self.gamma >= 0 and self.beta + self.gamma < 1):
            raise ConfigError(
                f"method.beta={self.beta} and method.gamma={self.gamma} must not be negative and must sum to less "
                "than 1, or nothing is kept"
            )
        check_choice("within", self.within, WITHIN)


@MERGES.register(
    "breadcrumbs",
    BreadcrumbsSettings,
    MergeInfo(
        title="Breadcrumbs",
        source="arXiv 2312.06795",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def breadcrumbs(inputs: MergeInput, settings: BreadcrumbsSettings) -> Merged:
    """``λ · Σ m_i ⊙ ΔW_i``, where m_i is 1 on the entries of middle magnitude."""

    def rule(module: str, deltas: Tensor) -> Tensor:
        ranked = deltas.flatten(1) if settings.within == "matrix" else deltas
        return keep_middle(ranked, settings.beta, settings.gamma).view_as(deltas).sum(dim=0)

    return merge_entrywise(inputs, settings, rule)


def keep_middle(values: Tensor, beta: float, gamma: float) -> Tensor:
    """Along the last dimension (n) the ⌊βn⌋ smallest and the ⌊γn⌋ largest magnitudes become zero."""
    count = values.shape[-1]
    order = values.abs().argsort(dim=-1, stable=True)
    middle = order[..., int(beta * count) : count - int(gamma * count)]
    is_middle = torch.zeros_like(values, dtype=torch.bool).scatter(-1, middle, True)
    return torch.where(is_middle, values, 0.0)
