"""Adapted linear maps as the probe reads them: an expert is chosen by one assignment, its map is one operation.

PEFT's own modules stay where they are and keep the factors; only how they compute is replaced for a while. What they
compute is the same, x Wᵀ + s (x Aᵀ) Bᵀ, but the second term is added as it is multiplied, and the backward pass looks
once at which positions have a gradient, not once for each product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional

from esmerge.probe.linear import Scores, at, placed, with_gradient


class AdapterSwitch:
    """Chooses the expert of one decoder layer's adapted maps; ``None`` is the bare backbone.

    Args:
        layer: with adapters attached.
        scores: where backward passes leave what they find.
        direct: whether maps are computed here where they can be; else PEFT computes them all.
    """

    def __init__(self, layer: nn.Module, scores: Scores, direct: bool = True) -> None:
        adapted = [module for module in layer.modules() if isinstance(module, LoraLayer)]
        self.direct = [module for module in adapted if direct and _is_plain(module)]
        self._others: list[LoraLayer] = [module for module in adapted if not (direct and _is_plain(module))]
        inner = {id(part) for module in adapted for part in module.modules()}
        unadapted = [module for module in layer.modules() if isinstance(module, nn.Linear) and id(module) not in inner]
        self.complete = not self._others and not unadapted  # no linear map computes in any other way
        self.scores = scores
        self.expert: str | None = None

    def to(self, expert: str | None) -> None:
        """Choose by PEFT's name of an adapter; maps that PEFT must compute itself are switched by PEFT."""
        self.expert = expert
        for module in self._others:
            module.enable_adapters(expert is not None)
            if expert is not None:
                module.set_adapter([expert])


@contextmanager
def adapter_switches(layers: Iterable[nn.Module], scores: Scores, direct: bool = True) -> Iterator[list[AdapterSwitch]]:
    """A switch for each decoder layer, set to the bare backbone; PEFT's own computation is put back at the end."""
    switches = [AdapterSwitch(layer, scores, direct) for layer in layers]
    try:
        for switch in switches:
            switch.to(None)
            for module in switch.direct:
                module.forward = _forward(module, switch)
        yield switches
    finally:
        for switch in switches:
            for module in switch.direct:
                module.__dict__.pop("forward", None)


def _is_plain(module: Any) -> bool:
    """Whether a module is a linear layer with adapters of the same number format and nothing beside A and B."""
    base = module.get_base_layer()
    factors = [*module.lora_A.values(), *module.lora_B.values()]
    return (
        type(base) is nn.Linear
        and not module.lora_variant
        and all(factor.bias is None and factor.weight.dtype == base.weight.dtype for factor in factors)
    )


@dataclass(frozen=True)
class _Map:
    """A backbone's linear layer, (out, in), and one expert's A (r, in), B (out, r) and scale on it."""

    weight: Tensor
    bias: Tensor | None
    a: Tensor
    b: Tensor
    scale: float
    scores: Scores


def _forward(module: Any, switch: AdapterSwitch) -> Callable[[Tensor], Tensor]:
    base = module.get_base_layer()

    def forward(input: Tensor) -> Tensor:
        name = switch.expert
        if name is None or name not in module.lora_A:
            bare: Tensor = base(input)
            return bare
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        adapted = _Map(base.weight, base.bias, a, b, module.scaling[name], switch.scores)
        output: Tensor = _Adapted.apply(input, base.weight, a, b, adapted)  # type: ignore[no-untyped-call]
        return output

    return forward


class _Adapted(torch.autograd.Function):
    """x Wᵀ + bias + s (x Aᵀ) Bᵀ for x (..., in_features); W, A and B get scores in place of gradients."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, a: Tensor, b: Tensor, adapted: _Map) -> Tensor:
        flat = input.flatten(0, -2)
        inner = flat @ a.T
        ctx.adapted = adapted  # parameters, which nothing changes before the backward pass
        ctx.save_for_backward(flat, inner)
        output = functional.linear(flat, weight, adapted.bias).addmm_(inner, b.T, alpha=adapted.scale)
        unflattened: Tensor = output.unflatten(0, input.shape[:-1])
        return unflattened

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, inner = ctx.saved_tensors
        adapted, (of_input, of_weight, of_a, of_b, _) = ctx.adapted, ctx.needs_input_grad
        rows = with_gradient(gradient)
        gradient_rows, parts = at(gradient, rows), adapted.scores.parts(rows)
        through = (gradient_rows @ adapted.b).mul_(adapted.scale)
        inputs = at(flat, rows) if of_weight or of_a else None
        if of_b:
            adapted.scores.add(adapted.b, gradient_rows, at(inner, rows), parts, adapted.scale)
        if inputs is not None and of_a:
            adapted.scores.add(adapted.a, through, inputs, parts)
        if inputs is not None and of_weight:
            adapted.scores.add(adapted.weight, gradient_rows, inputs, parts)
        if not of_input:
            return None, None, None, None, None
        passed = (gradient_rows @ adapted.weight).addmm_(through, adapted.a)
        return placed(passed, rows, gradient.shape[:-1]), None, None, None, None
