"""Settings that many merges share, and the checks on their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from src.errors import ConfigError

EXACT = "exact"


@dataclass(frozen=True)
class ConvexSettings:
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


@dataclass(frozen=True)
class DeltaSettings:
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


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ``ConfigError`` unless ``method.<name>`` is one of the allowed words."""
    if value not in allowed:
        raise ConfigError(f"method.{name}={value!r} must be one of {', '.join(allowed)}")


def check_positive(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``method.<name>`` is a finite number above 0."""
    if not 0 < value < float("inf"):
        raise ConfigError(f"method.{name}={value} must be greater than 0 and finite")


def check_fraction(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``method.<name>`` lies in (0, 1]."""
    if not 0 < value <= 1:
        raise ConfigError(f"method.{name}={value} must be greater than 0 and at most 1")


def check_rank(rank: str | int) -> None:
    """Raise ``ConfigError`` unless ``method.rank`` is ``exact`` or a positive integer."""
    if rank == EXACT or (isinstance(rank, int) and not isinstance(rank, bool) and rank > 0):
        return
    raise ConfigError(f"method.rank={rank!r} must be {EXACT!r} or a positive whole number")
