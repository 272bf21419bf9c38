"""RegMean's least squares over the experts, solved for the factors of low rank (arXiv 2212.09849)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

COLUMNS = 1024  # of a Gram matrix that are turned to double at once
MOST = 0.9999  # the factor above which the sum of Gram matrices may have no inverse


def through(factors: Sequence[Tensor], grams: Sequence[Tensor], off_diagonal: float) -> list[Tensor]:
    """``A_i G_i (Σ_j G_j)⁻¹`` of every expert, with shrunk Gram matrices; in double.

    Shrinking multiplies the off-diagonal entries; channels that are silent under every expert count alike. The sum has
    an inverse. One matrix of the sum's size is held beside the given ones, however many experts there are.

    Args:
        factors: A_i, (r_i, in).
        grams: G_i, (in, in).
        off_diagonal: factor on the off-diagonal entries.
    """
    factor = min(off_diagonal, MOST)
    diagonals = [gram.diagonal().double() for gram in grams]
    silent = (sum(diagonals, torch.zeros_like(diagonals[0])) == 0).double()
    shrunk_diagonals = [
        (1 - factor) * diagonal + silent for diagonal in diagonals
    ]  # what shrinking leaves on the diagonal
    total = torch.zeros(grams[0].shape, dtype=torch.float64, device=grams[0].device)
    for gram, shrunk in zip(grams, shrunk_diagonals, strict=True):
        total.add_(gram, alpha=factor).diagonal().add_(shrunk)
    root = torch.linalg.cholesky(total, out=total)
    return [
        torch.cholesky_solve((factor * _times(a, gram) + a.double() * shrunk).T, root).T
        for a, gram, shrunk in zip(factors, grams, shrunk_diagonals, strict=True)
    ]


def _times(a: Tensor, gram: Tensor) -> Tensor:
    """``A G`` in double, a block of columns at a time: the Gram matrix is never copied whole."""
    wide = a.double()
    return torch.cat([wide @ block.double() for block in gram.split(COLUMNS, dim=1)], dim=1)
