"""One coefficient per expert and layer, or per expert and module, fitted with every adapter on the backbone at once.

Under coefficients c an adapted linear layer of decoder layer l computes ``W x + Σ_i c[i, l] · s_i · B_i A_i x``: the
model that ``Σ_i c[i, l] · ΔW_i`` would leave, without ever forming it. Nothing but c has a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esmerge.adapters.experts import check_compatible
from esmerge.adapters.lora import PREFIX, LoraFactors, LoraState
from esmerge.calibration.types import Statistics
from esmerge.core.errors import AdapterError, NumberError
from esmerge.core.finite import all_finite
from esmerge.core.names import layer_of
from esmerge.core.progress import progress


@dataclass
class Mixture:
    """The experts' adapters on a backbone.

    Attributes:
        weights: c, (experts, layers) or (experts, modules), in the experts' order; the next forward pass reads it.
    """

    weights: Tensor

    def only(self, expert: int) -> None:
        """Put one expert on alone."""
        self.weights = torch.zeros_like(self.weights)
        self.weights[expert] = 1

    def measured(self, experts: Iterable[str]) -> Statistics:
        """The coefficients of each expert, (layers,), under the name ``layer``."""
        return {name: {"layer": row.detach().float().cpu()} for name, row in zip(experts, self.weights, strict=True)}


@contextmanager
def mixture(
    model: nn.Module, experts: Mapping[str, LoraState], column: Callable[[str], int] = layer_of
) -> Iterator[Mixture]:
    """Put all adapters on for a while, at first with coefficients of zero; the model is left as it was found.

    Args:
        column: module -> the column of coefficients that weighs it: its decoder layer's, unless it says otherwise.

    Raises:
        AdapterError: the adapters do not fit each other or the backbone.
        NumberError: the backbone is in float16, whose smallest numbers are larger than many gradients of a mean loss.
    """
    check_compatible(experts, "delta")
    if next(model.parameters()).dtype == torch.float16:
        raise NumberError(
            "the backbone is in float16, which would round many of the gradients that fit these coefficients to zero: "
            "load it in bfloat16 or float32"
        )
    first = next(iter(experts.values()))
    columns = {module: column(module) for module in first.modules}
    mixed = Mixture(torch.zeros(len(experts), 1 + max(columns.values()), device=next(model.parameters()).device))
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    handles = []
    try:
        model.requires_grad_(False)
        for module in first.modules:
            linear = _linear(model, module)
            parts = [state.modules[module] for state in experts.values()]
            handles.append(linear.register_forward_hook(_adding(mixed, columns[module], parts, linear.weight)))
        yield mixed
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def fit(
    title: str,
    mixed: Mixture,
    start: Tensor,
    bound: Callable[[Tensor], Tensor],
    losses: Callable[[int], Iterable[Tensor]],
    steps: int,
    rate: float,
    final: float = 1.0,
) -> list[float]:
    """Minimise the sum of ``losses(step)`` over ``c = bound(raw)`` by Adam; leaves the fitted c in ``mixed.weights``.

    Args:
        title: shown beside the progress bar.
        start: raw, of the coefficients' shape, before the first step.
        bound: raw values -> coefficients.
        losses: the parts of a step's loss; each is differentiated before the next is asked for, so that one graph is
            in memory at a time.
        rate: learning rate, which falls along half a cosine to ``final`` times itself.

    Returns:
        The loss at each step, before its update.

    Raises:
        NumberError: the loss, or a coefficient after the last step, is not finite.
    """
    raw = start.to(mixed.weights).requires_grad_(True)
    optimiser = torch.optim.Adam([raw], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, final * rate)
    history: list[float] = []
    with torch.enable_grad(), progress(title, steps) as bar:
        for step in range(steps):
            bounded = bound(raw)
            mixed.weights = bounded.detach().requires_grad_(True)
            history.append(_differentiate(title, step, losses))
            bounded.backward(mixed.weights.grad)
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            bar.set_postfix(loss=f"{history[-1]:.4f}", refresh=False)
            bar.update()
    mixed.weights = bound(raw).detach()
    if not all_finite(mixed.weights):
        raise NumberError(f"{title}: coefficients are not finite after step {steps - 1}; lower the learning rate")
    return history


def _differentiate(title: str, step: int, losses: Callable[[int], Iterable[Tensor]]) -> float:
    """Add the gradient of every part to the coefficients'; returns the parts' sum."""
    total = 0.0
    for loss in losses(step):
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NumberError(f"{title}: the loss is {value} at step {step}; lower the learning rate")
        loss.backward()
        total += value
    return total


def _adding(mixed: Mixture, column: int, parts: Sequence[LoraFactors], like: Tensor) -> Callable[..., Tensor]:
    """The hook that adds all experts' updates of one linear layer, stacked along their ranks."""
    a = torch.cat([factors.a.to(like) for factors in parts])  # (Σr, in)
    b = torch.cat([factors.b.to(like) for factors in parts], dim=1)  # (out, Σr)
    ranks = torch.tensor([factors.rank for factors in parts], device=like.device)
    scales = torch.tensor([factors.scale for factors in parts], device=like.device)

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        weights = (mixed.weights[:, column] * scales).repeat_interleave(ranks, output_size=len(a))
        return output + (args[0] @ a.T * weights.to(output)) @ b.T

    return hook


def _linear(model: nn.Module, module: str) -> nn.Linear:
    path = module.removeprefix(PREFIX)
    linear = dict(model.named_modules()).get(path)
    if not isinstance(linear, nn.Linear):
        raise AdapterError(f"the adapters change {module}: the backbone has no such linear layer")
    return linear
