"""Linear maps whose backward pass leaves out positions without a gradient; exact, and most of them at the probe.

An expert's loss at a layer looks at its own modality's tokens alone. All that follows attention works position by
position, so the gradients of the other positions are rows of zeros, which a dense product multiplies all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

WORTHWHILE = 0.75  # share of positions with a gradient from which a dense product is as quick


class SkippingZeroRows(TorchFunctionMode):
    """Within it, linear maps differentiate only at positions with a gradient.

    On a CPU only: elsewhere the host would have to wait for the device to learn which positions these are.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func is functional.linear and torch.is_grad_enabled() and args and args[0].device.type == "cpu":
            return _linear(*args, **given)
        return func(*args, **given)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = _Linear.apply(input, weight)
    return found if bias is None else found + bias


class _Linear(torch.autograd.Function):
    """``input @ weight.T``; (..., in_features) and (out_features, in_features) to (..., out_features)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor) -> Tensor:
        of_input, of_weight = ctx.needs_input_grad
        ctx.save_for_backward(input if of_weight else None, weight if of_input else None)
        return functional.linear(input, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        input, weight = ctx.saved_tensors
        rows = _with_gradient(gradient)
        few = _at(gradient, rows)
        return (
            None if weight is None else _placed(few @ weight, rows, gradient.shape[:-1]),
            None if input is None else few.T @ _at(input, rows),
        )


def _with_gradient(gradient: Tensor) -> Tensor | None:
    """Positions whose row is not all zeros, (R,); None where leaving out the others would save little."""
    largest = gradient.reshape(-1, gradient.shape[-1]).abs().amax(dim=1)  # seven times as quick as asking any() here
    rows = largest.nonzero().squeeze(1)  # NaN is not zero
    return rows if len(rows) < WORTHWHILE * len(largest) else None


def _at(values: Tensor, rows: Tensor | None) -> Tensor:
    """Positions as rows of a matrix, all or some."""
    flat = values.reshape(-1, values.shape[-1])
    return flat if rows is None else flat[rows]


def _placed(values: Tensor, rows: Tensor | None, shape: torch.Size) -> Tensor:
    """Rows put back among zeros."""
    if rows is not None:
        values = values.new_zeros(shape.numel(), values.shape[1]).index_copy_(0, rows, values)
    return values.reshape(*shape, values.shape[1])
