"""What is known of an adapter before a factor is read: of every module its rank, widths, number formats and scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ModuleHeader:
    """One adapted linear layer, described.

    Attributes:
        rank: r; A is (r, in_features) and B is (out_features, r).
        in_features: width of the layer's input.
        out_features: width of its output.
        a_dtype: number format of A.
        b_dtype: number format of B.
        scale: alpha / rank, or alpha / sqrt(rank) for rsLoRA.
    """

    rank: int
    in_features: int
    out_features: int
    a_dtype: torch.dtype
    b_dtype: torch.dtype
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the dense update: (out_features, in_features)."""
        return self.out_features, self.in_features

    def factor_shape(self, factor: str) -> tuple[int, int]:
        """Of factor ``"A"``, (rank, in_features), or ``"B"``, (out_features, rank)."""
        return (self.rank, self.in_features) if factor == "A" else (self.out_features, self.rank)

    @property
    def numel(self) -> int:
        """Entries of the dense update."""
        return self.out_features * self.in_features

    @property
    def dtype(self) -> torch.dtype:
        """The narrowest number format that holds both factors."""
        return torch.promote_types(self.a_dtype, self.b_dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of both factors."""
        return self.rank * (self.in_features * self.a_dtype.itemsize + self.out_features * self.b_dtype.itemsize)


AdapterHeader = Mapping[str, ModuleHeader]
"""Module name -> its header, in the backbone's order."""
