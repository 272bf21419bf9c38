"""Settings that many merges share, and the checks on their values."""

from __future__ import annotations

from dataclasses import dataclass

from esmerge.core.errors import ConfigError
from esmerge.core.validation import check_positive
from esmerge.merging.api import MergeConfig

EXACT = "exact"


@dataclass(frozen=True)
class ConvexSettings(MergeConfig):
    """Settings of merges whose weights sum to 1 over the experts.

    Attributes:
        scale: multiplies the merged task vector, in both spaces.
        rank: delta space only: ``exact`` keeps the merged update lossless (an adapter of the experts' summed rank, or
            dense updates where weights differ from entry to entry); a number truncates it by SVD.
        fold_scales: factor space only: accept experts with different LoRA scales by folding them into B.
    """

    scale: float = 1.0
    rank: str | int = EXACT
    fold_scales: bool = False

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        check_rank(self.rank)

    def folds_scales(self) -> bool:
        return self.fold_scales


@dataclass(frozen=True)
class DeltaSettings(MergeConfig):
    """Settings of merges of dense updates that are not convex.

    Attributes:
        scale: λ, multiplies the merged task vector.
        rank: ``exact`` keeps the merged update lossless, a number truncates it by SVD.
    """

    scale: float = 1.0
    rank: str | int = EXACT

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)
        check_rank(self.rank)


def check_rank(rank: str | int) -> None:
    """Raise ``ConfigError`` unless ``method.rank`` is ``exact`` or a positive integer."""
    if rank == EXACT or (isinstance(rank, int) and not isinstance(rank, bool) and rank > 0):
        return
    raise ConfigError(f"method.rank={rank!r} must be {EXACT!r} or a positive whole number")
