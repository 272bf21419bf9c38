"""All experts' updates of one module in common bases: the small core that stands for them without loss.

An update of rank r lives in the column space of B and the row space of A. QR of the stacked factors gives bases that
hold every expert's update, so what is computed from the updates' products, norms and singular values can be computed
from cores of at most Σr × Σr: no dense update, and no decomposition of one, is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors


@dataclass(frozen=True)
class SharedBasis:
    """``ΔW_i = left @ cores[i] @ right.T`` in double precision.

    Attributes:
        left: (out_features, p), orthonormal columns; p = min(out_features, Σr).
        right: (in_features, q), orthonormal columns; q = min(in_features, Σr).
        cores: (N, p, q), in the experts' order.
    """

    left: Tensor
    right: Tensor
    cores: Tensor

    def expand(self, core: Tensor) -> LoraFactors:
        """The update ``left @ core @ right.T`` as factors of rank min(p, q)."""
        if core.shape[0] <= core.shape[1]:
            return LoraFactors(core @ self.right.T, self.left, 1.0)
        return LoraFactors(self.right.T, self.left @ core, 1.0)


def shared_basis(parts: Mapping[str, LoraFactors]) -> SharedBasis:
    """Common bases and cores of one module's factors, whatever their ranks and scales."""
    left, stacked_b = torch.linalg.qr(torch.cat([factors.scale * factors.b.double() for factors in parts.values()], 1))
    right, stacked_a = torch.linalg.qr(torch.cat([factors.a.double().T for factors in parts.values()], 1))
    ranks = [factors.rank for factors in parts.values()]
    pairs = zip(stacked_b.split(ranks, dim=1), stacked_a.split(ranks, dim=1), strict=True)
    return SharedBasis(left, right, torch.stack([b @ a.T for b, a in pairs]))
