"""Small random inputs for merges: experts, probe signals and statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState, layer_count
from esmerge.calibration.types import BACKBONE, Statistics
from esmerge.coefficients.types import Signals
from esmerge.core.torch_rng import torch_generator
from esmerge.merging.ops.space import tensor_shapes

BASE = "backbone"
StatisticMaker = Callable[[Mapping[str, LoraState], str, int], Statistics]
"""``(experts, merge space, seed) -> statistic``, as a measure registered under the same name would give it."""


@dataclass(frozen=True)
class Shape:
    """How large the experts of a check are, and how they are drawn.

    Attributes:
        count: N experts.
        layers: decoder layers, of two modules each.
        rank: of every module's factors.
        dtype: number format of the factors.
        seed: of every random number.
    """

    count: int = 3
    layers: int = 2
    rank: int = 2
    dtype: torch.dtype = torch.float32
    seed: int = 0


def modules_of(layers: int) -> dict[str, tuple[int, int]]:
    """Two modules per layer, of different (out_features, in_features)."""
    return {
        f"base_model.model.model.layers.{layer}.{part}": shape
        for layer in range(layers)
        for part, shape in (("self_attn.q_proj", (6, 5)), ("mlp.down_proj", (5, 9)))
    }


def make_experts(
    count: int = 2,
    layers: int = 2,
    rank: int = 2,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    scale: float = 2.0,
    shared_a: bool = False,
) -> dict[str, LoraState]:
    """``count`` adapters with normal entries, in an order that is not alphabetical."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    shapes = modules_of(layers)
    common = {module: draw(rank, width) for module, (_, width) in shapes.items()}
    return {
        f"expert{count - i}": LoraState(
            {
                module: LoraFactors(common[module] if shared_a else draw(rank, width), draw(height, rank), scale)
                for module, (height, width) in shapes.items()
            },
            BASE,
        )
        for i in range(count)
    }


def experts_of(shape: Shape, shared_a: bool = False) -> dict[str, LoraState]:
    """Experts of a shape."""
    return make_experts(shape.count, shape.layers, shape.rank, shape.dtype, shape.seed, shared_a=shared_a)


def make_signals(experts: Mapping[str, LoraState], space: str, seed: int = 0) -> Signals:
    """Random responses and scores that fit the experts; each expert has a modality to itself."""
    generator = torch.Generator().manual_seed(seed)
    kinds = tuple(f"modality{i}" for i in range(len(experts)))

    def responses() -> dict[str, Tensor]:
        return {kind: torch.randn(3, 4, 5, generator=generator) for kind in kinds}

    backbone, measured = responses(), {name: responses() for name in experts}  # drawn first: the same in both spaces
    scores = {
        name: {key: torch.rand(*shape, generator=generator) for key, shape in tensor_shapes(state, space).items()}
        for name, state in experts.items()
    }
    return Signals(tuple(experts), kinds, tuple(range(len(experts))), backbone, measured, scores)


def make_gram(experts: Mapping[str, LoraState], space: str, seed: int) -> Statistics:
    """Input Gram matrices, (in, in), of a few random inputs."""
    grams: dict[str, dict[str, Tensor]] = {}
    for name, state in experts.items():
        draw = _generator(seed, name)
        inputs = {module: torch.randn(7, f.a.shape[1], generator=draw) for module, f in state.modules.items()}
        grams[name] = {module: x.T @ x / len(x) for module, x in inputs.items()}
    return grams


def make_span_inputs(experts: Mapping[str, LoraState], space: str, seed: int) -> Statistics:
    """A few random inputs, (tokens, in)."""
    rows: dict[str, dict[str, Tensor]] = {}
    for name, state in experts.items():
        draw = _generator(seed, name)
        rows[name] = {module: torch.randn(3, f.a.shape[1], generator=draw) for module, f in state.modules.items()}
    return rows


def make_fisher(experts: Mapping[str, LoraState], space: str, seed: int) -> Statistics:
    """Squared gradients of every entry that is merged in ``space``."""
    squares = {}
    for name, state in experts.items():
        draw = _generator(seed, name)
        shapes = tensor_shapes(state, space).items()
        squares[name] = {key: torch.randn(*shape, generator=draw).square() for key, shape in shapes}
    return squares


def make_channels(experts: Mapping[str, LoraState], space: str, seed: int) -> Statistics:
    """Mean magnitudes of the backbone's inputs, (in,)."""
    modules = next(iter(experts.values())).modules
    draw = _generator(seed, BACKBONE)
    return {BACKBONE: {module: torch.rand(f.a.shape[1], generator=draw) for module, f in modules.items()}}


def make_layer_weights(experts: Mapping[str, LoraState], space: str, seed: int) -> Statistics:
    """One fitted weight per expert and layer."""
    depth = layer_count(next(iter(experts.values())))
    return {name: {"layer": torch.rand(depth, generator=_generator(seed, name))} for name in experts}


def make_module_weights(experts: Mapping[str, LoraState], space: str, seed: int) -> Statistics:
    """One fitted weight per expert and module."""
    weights = {}
    for name, state in experts.items():
        draw = _generator(seed, name)
        weights[name] = {module: torch.rand((), generator=draw) for module in state.modules}
    return weights


STATISTIC_MAKERS: Mapping[str, StatisticMaker] = {
    "gram": make_gram,
    "propagated_gram": make_gram,
    "fisher": make_fisher,
    "channels": make_channels,
    "alignment": make_layer_weights,
    "entropy": make_layer_weights,
    "null_space": make_module_weights,
    "span_inputs": make_span_inputs,
}


def _generator(seed: int, name: str) -> torch.Generator:
    return torch_generator(seed, "measured", name)
