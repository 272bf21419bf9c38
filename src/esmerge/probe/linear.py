"""Linear maps as the probe differentiates them: scores by batch, and no work where no gradient is.

A score adds |gradient| over batches, so the gradient of each batch must be known by itself; a pass may hold several
batches all the same, since the gradient of a weight is a sum over positions, and positions belong to batches.

An expert's loss at a layer looks at its own modality's tokens alone. All that follows attention works position by
position, so the gradients of the other positions are rows of zeros, which a dense product multiplies all the same. They
are left out here, which is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from esmerge.core.errors import AdapterError
from esmerge.probe.execution import DEFAULT

WORTHWHILE = 0.75  # share of positions with a gradient from which a dense product is as quick


class Scores:
    """Scores of the weights of linear maps, from backward passes; the weights get no ``grad``.

    Attributes:
        by_weight: weight -> Σ over batches of |gradient| or its square, float32, in the weight's shape.
    """

    def __init__(self, score: str, ends: Sequence[int], entries: int = DEFAULT.entries) -> None:
        """
        Args:
            score: ``absolute`` or ``squared``.
            ends: for each batch of the pass, the position after its last one, among the positions of all.
            entries: of all batches' gradients, up to which they are held together.
        """
        self._entries = entries
        self._power = torch.Tensor.abs_ if score == "absolute" else torch.Tensor.square_
        self._ends = torch.tensor(ends)
        self._parts = _between([0, *ends])
        self.by_weight: dict[Tensor, Tensor] = {}

    def parts(self, rows: Tensor | None) -> list[slice]:
        """Where each batch stands among the chosen positions; None chooses all."""
        if rows is None:
            return self._parts
        return _between([0, *torch.searchsorted(rows, self._ends).tolist()])

    def add(self, weight: Tensor, left: Tensor, right: Tensor, parts: Sequence[slice], scale: float = 1.0) -> None:
        """Add the score of a weight whose gradient is scale · leftᵀ right; (R, out) and (R, in).

        Raises:
            AdapterError: the weight has a score already: its map is used twice in a layer, and the powers of two
                gradients do not add up to that of their sum.
        """
        if weight in self.by_weight:
            raise AdapterError(
                f"a linear map of shape {tuple(weight.shape)} is used twice in one decoder layer: its entries cannot "
                "be scored; leave it out of the adapters' target modules"
            )
        if left.shape[1] <= right.shape[1]:
            self.by_weight[weight] = self._summed(left, right, parts, scale)
        else:  # few rows and many columns are quicker to multiply than many rows and few columns
            self.by_weight[weight] = self._summed(right, left, parts, scale).T

    def _summed(self, left: Tensor, right: Tensor, parts: Sequence[slice], scale: float) -> Tensor:
        """Σ over parts of the score of scale · leftᵀ right, float32; parts of one size at once where that is small."""
        shape = left.shape[1], right.shape[1]
        if len({part.stop - part.start for part in parts}) == 1 and len(parts) * math.prod(shape) <= self._entries:
            first, second = (rows.reshape(len(parts), -1, rows.shape[1]) for rows in (left, right))
            return self._power((first.mT @ second).float().mul_(scale)).sum(dim=0)
        total = torch.zeros(shape, dtype=torch.float32, device=left.device)
        for part in parts:
            if part.start < part.stop:
                total += self._power((left[part].T @ right[part]).float().mul_(scale))
        return total


class ScoringLinear(TorchFunctionMode):
    """Within it, linear maps leave scores of their weights in place of gradients."""

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self._scores = scores

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        keywords = kwargs or {}
        if func is functional.linear and torch.is_grad_enabled():
            return _linear(self._scores, *args, **keywords)
        return func(*args, **keywords)


def _linear(scores: Scores, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    output: Tensor = _Linear.apply(input, weight, scores, weight)  # type: ignore[no-untyped-call]
    return output if bias is None else output + bias


class _Linear(torch.autograd.Function):
    """``input @ weight.T``; (..., in_features) and (out_features, in_features) to (..., out_features)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, scores: Scores, scored: Tensor) -> Tensor:
        of_input, of_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(input if of_weight else None, weight if of_input else None)
        ctx.scores, ctx.scored = scores, scored
        return functional.linear(input, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        rows = with_gradient(gradient)
        gradient_rows = at(gradient, rows)
        if input is not None:
            ctx.scores.add(ctx.scored, gradient_rows, at(input, rows), ctx.scores.parts(rows))
        return None if weight is None else placed(gradient_rows @ weight, rows, gradient.shape[:-1]), None, None, None


def with_gradient(gradient: Tensor) -> Tensor | None:
    """Positions whose row is not all zeros, (R,); None where leaving out the others would save little.

    On a CPU only: elsewhere the host would have to wait for the device to learn which positions these are.
    """
    if gradient.device.type != "cpu":
        return None
    flat = gradient.reshape(-1, gradient.shape[-1])
    if flat[:, 0].count_nonzero() >= WORTHWHILE * len(flat):  # one column may decide it
        return None
    nonzero = flat.amax(dim=1).ne(0) | flat.amin(dim=1).ne(0)  # NaN is not zero; many times as quick as any() here
    rows = nonzero.nonzero().squeeze(1)
    return rows if len(rows) < WORTHWHILE * len(nonzero) else None


def at(values: Tensor, rows: Tensor | None) -> Tensor:
    """Positions as rows of a matrix: those in ``rows``, or all."""
    flat = values.reshape(-1, values.shape[-1])
    return flat if rows is None else flat[rows]


def placed(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    """Rows put back among zeros."""
    if rows is not None:
        values = values.new_zeros(shape.numel(), values.shape[1]).index_copy_(0, rows, values)
    return values.reshape(*shape, values.shape[1])


def _between(ends: Sequence[int]) -> list[slice]:
    return [slice(start, stop) for start, stop in zip(ends[:-1], ends[1:], strict=True)]
