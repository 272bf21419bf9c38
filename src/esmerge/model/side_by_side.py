"""Parts of a batch that pass through a model side by side, each in a Python thread with its share of torch's threads.

A small backbone's operations are short: two threads that share each of them gain a fifth, two that each have half of
the sequences nearly double the pace. Gradients are those of one pass after the other, within rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

MOST = 4  # Python threads: more would wait for each other's Python; torch's own threads are shared out among them
Part = Callable[[Tensor], Tensor]
"""From a part's inputs to what the model makes of them; must not depend on what another thread sets."""


def threads_for_parts(device: torch.device) -> int:
    """How many parts run side by side: on a CPU as many as torch has threads, up to ``MOST``."""
    return min(MOST, torch.get_num_threads()) if device.type == "cpu" and _hidden_states_are_kept_apart() else 1


def run_side_by_side(
    parts: Sequence[Part], inputs: Sequence[Tensor], parameters: Sequence[Tensor], threads: int
) -> list[Tensor]:
    """Each part's output, in order; the same gradients at every call, however the threads take turns.

    Args:
        parts: started in this order, so the longest had better come first.
        inputs: of each part.
        parameters: leaves that the parts read and that gradients are wanted for.
        threads: of Python; with one, or of one part, nothing but a loop.
    """
    if threads == 1 or len(parts) == 1:
        return [part(value) for part, value in zip(parts, inputs, strict=True)]
    if not torch.is_grad_enabled():
        return list(_pool(threads).map(_without_gradients, parts, inputs))
    return list(_SideBySide.apply(parts, threads, *inputs, *parameters))  # type: ignore[no-untyped-call]


class _SideBySide(torch.autograd.Function):
    """Forwards in threads, and backwards in threads: torch walks a graph on the CPU in the thread that asks for it."""

    @staticmethod
    def forward(ctx: Any, parts: Sequence[Part], threads: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Inputs, then parameters; the graphs of the parts' own are kept for the way back."""
        inputs, ctx.parameters = tensors[: len(parts)], tensors[len(parts) :]
        ctx.threads, ctx.inputs = threads, [value.detach().requires_grad_(value.requires_grad) for value in inputs]
        ctx.outputs = list(_pool(threads).map(_with_gradients, parts, ctx.inputs))
        return tuple(output.detach() for output in ctx.outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of parameters the sum over parts, in their order."""
        of_part = partial(_gradients, ctx.parameters)
        by_part = list(_pool(ctx.threads).map(of_part, ctx.outputs, ctx.inputs, gradients))
        of_inputs = [part[0] for part in by_part]
        of_parameters = [_sum(list(shares)) for shares in zip(*(part[1:] for part in by_part), strict=True)]
        return None, None, *of_inputs, *of_parameters


def _with_gradients(part: Part, value: Tensor) -> Tensor:
    with torch.enable_grad():  # whether gradients are kept is each thread's own
        return part(value)


def _without_gradients(part: Part, value: Tensor) -> Tensor:
    with torch.no_grad():
        return part(value)


def _gradients(
    parameters: Sequence[Tensor], output: Tensor, value: Tensor, gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """Of a part's input, then of the parameters; None where the output depends on none."""
    wanted = [tensor for tensor in (value, *parameters) if tensor.requires_grad]
    if not output.requires_grad:
        return (None,) * (1 + len(parameters))
    values = iter(torch.autograd.grad(output, wanted, gradient, allow_unused=True))
    return tuple(next(values) if tensor.requires_grad else None for tensor in (value, *parameters))


def _sum(shares: Sequence[Tensor | None]) -> Tensor | None:
    present = [share for share in shares if share is not None]
    return sum(present[1:], start=present[0]) if present else None


def _pool(threads: int) -> ThreadPoolExecutor:
    share = max(1, torch.get_num_threads() // threads)
    return _pool_of(os.getpid(), threads, share)  # a process that was forked has none of the threads


@cache
def _pool_of(process: int, threads: int, share: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "part", initializer=torch.set_num_threads, initargs=(share,))


@cache
def _hidden_states_are_kept_apart() -> bool:
    """Whether this transformers keeps what one forward pass collects apart from what another thread's does."""
    return find_spec("transformers.utils.output_capturing") is not None
