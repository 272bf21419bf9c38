"""What the tests of the merges that drop entries share: experts from matrices, and other code on the same draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from mergekit.merge_methods import registry
from mergekit.merge_methods.base import TensorGroup
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.merging.api import MergeInput

MODULE = "base_model.model.model.layers.0.q"


def experts_of(*deltas: Tensor) -> dict[str, LoraState]:
    """One adapter per matrix, whose update of ``MODULE`` is that matrix."""
    return {
        f"e{i}": LoraState({MODULE: LoraFactors(delta, torch.eye(delta.shape[0]), 1.0)})
        for i, delta in enumerate(deltas)
    }


def random_input(count: int, seed: int, shape: tuple[int, int] = (6, 16)) -> tuple[MergeInput, Tensor]:
    """Experts with normal entries and their stacked updates."""
    deltas = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    return MergeInput(experts_of(*deltas), "delta", seed), deltas


def draw_with(patch: pytest.MonkeyPatch, numbers: Tensor) -> None:
    """Let ``torch.bernoulli`` keep what the given numbers keep: one call per expert, in their order."""
    calls: Iterator[Tensor] = iter(numbers)
    patch.setattr(torch, "bernoulli", lambda probabilities: (next(calls) >= 1 - probabilities).to(probabilities))


def mergekit(name: str, deltas: Sequence[Tensor], normalize: bool, **shared: float) -> Tensor:
    """What mergekit's merge leaves on a backbone of zeros, all weights 1, without its rescaling to the L1 norm."""
    ids = range(1, len(deltas) + 1)
    group = TensorGroup.from_tensors([torch.zeros_like(deltas[0]), *deltas], base_index=0)
    settings = {key: dict.fromkeys(ids, value) for key, value in {"weight": 1.0, **shared}.items()}
    switches = {"int8_mask": False, "normalize": normalize, "rescale": False, "lambda": 1.0}
    return registry.get(name).merge_group(group, **settings, **switches)
