"""Training a large backbone: what its layers compute is forgotten and computed again on the way back.

An adapted layer of Llama-3.1-8B keeps 185 kB a position for its gradient (``python -m benchmarks.estimate`` counts it),
32 of them 6 MB: a batch of eight 5-shot prompts would take 200 GB. Recomputing costs one more pass forwards and keeps a
layer's input alone, 8 kB. Results are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

LARGE = 1_000_000_000  # parameters from which memory counts more than a third of the time


@contextmanager
def recomputed_if_large(model: Any, large: int = LARGE) -> Iterator[None]:
    """Layers of a model with at least ``large`` parameters recompute their activations while this is open.

    The layers alone are put into training mode, not what is inside: no dropout is switched on.

    Args:
        model: of transformers; one that cannot recompute stays as it is.
    """
    if not getattr(model, "supports_gradient_checkpointing", False) or _parameters(model) < large:
        yield
        return
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    disable = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
    enable({"use_reentrant": False})
    layers = [layer for layer in model.modules() if getattr(layer, "gradient_checkpointing", False)]
    before = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = True
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training
        disable()


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
