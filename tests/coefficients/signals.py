"""Random signals of any number of experts, modalities and layers, and random directions."""

from __future__ import annotations

import torch
from torch import Tensor

from esmerge.coefficients import formulas
from esmerge.coefficients.types import Signals

SAMPLES, WIDTH = 6, 5


def tensor_shapes(layers: int) -> dict[str, tuple[int, int]]:
    """The factors of one module per layer."""
    return {
        f"base_model.model.model.layers.{layer}.mlp.up_proj.lora_{factor}.weight": shape
        for layer in range(layers)
        for factor, shape in (("A", (2, WIDTH)), ("B", (6, 2)))
    }


def make_signals(experts: int = 2, modalities: int = 2, layers: int = 3, seed: int = 0) -> Signals:
    """Responses (layers, SAMPLES, WIDTH) about those of the backbone, and scores that are squares of normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    names = tuple(f"expert{i}" for i in range(experts))
    kinds = tuple(f"kind{i}" for i in range(modalities))

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    backbone = {kind: draw(layers, SAMPLES, WIDTH) for kind in kinds}
    responses = {name: {kind: backbone[kind] + draw(layers, SAMPLES, WIDTH) for kind in kinds} for name in names}
    scores = {name: {key: draw(*shape).square() for key, shape in tensor_shapes(layers).items()} for name in names}
    return Signals(names, kinds, tuple(i % modalities for i in range(experts)), backbone, responses, scores)


def make_directions(features: int, count: int, seed: int) -> Tensor:
    """The first ``count`` random directions of a seed, (count, features)."""
    return formulas.unit_directions(features, count, torch.Generator().manual_seed(seed))
