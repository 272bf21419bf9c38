"""Random adapters and probe signals for the tests of merges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from esmerge.adapters.dense import DenseState, Update
from esmerge.adapters.lora import LoraFactors, LoraState, layer_count
from esmerge.calibration.types import BACKBONE, Measured
from esmerge.coefficients.types import ESConfig, Signals
from esmerge.core.torch_rng import generator
from esmerge.merging.api import MERGES, MergeInput
from esmerge.merging.ops.space import tensor_shapes

PROJECTIONS = 8


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
            "backbone",
        )
        for i in range(count)
    }


def make_signals(experts: Mapping[str, LoraState], space: str, seed: int = 0) -> Signals:
    """Random responses and scores that fit the experts; each owns a modality of its own."""
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


def make_input(
    name: str, space: str, granularity: str | None, experts: Mapping[str, LoraState], seed: int = 0
) -> MergeInput:
    """What merge ``name`` needs to run on ``experts``: signals, measures and a task only where it uses them."""
    info = MERGES.get(name).info
    measured = {measure: MEASURED[measure](experts, space, seed) for measure in info.needs}
    inputs = MergeInput(experts, space, seed, measured=measured, task=(sorted(experts)[0],))
    if not info.needs_signals:
        return inputs
    granularity_ = ESConfig(granularity or "joint", projections=PROJECTIONS)
    return replace(inputs, signals=make_signals(experts, space, seed), granularity=granularity_)


def _generator(seed: int, name: str) -> torch.Generator:
    return generator(seed, "measured", name)


def make_gram(experts: Mapping[str, LoraState], space: str, seed: int) -> Measured:
    """Input Gram matrices, (in, in), of a few random inputs."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, state in experts.items():
        draw = _generator(seed, name)
        inputs = {module: torch.randn(7, f.a.shape[1], generator=draw) for module, f in state.modules.items()}
        found[name] = {module: x.T @ x / len(x) for module, x in inputs.items()}
    return found


def make_fisher(experts: Mapping[str, LoraState], space: str, seed: int) -> Measured:
    """Squared gradients of every entry that is merged in ``space``."""
    found = {}
    for name, state in experts.items():
        draw = _generator(seed, name)
        shapes = tensor_shapes(state, space).items()
        found[name] = {key: torch.randn(*shape, generator=draw).square() for key, shape in shapes}
    return found


def make_channels(experts: Mapping[str, LoraState], space: str, seed: int) -> Measured:
    """Mean magnitudes of the backbone's inputs, (in,)."""
    modules = next(iter(experts.values())).modules
    draw = _generator(seed, BACKBONE)
    return {BACKBONE: {module: torch.rand(f.a.shape[1], generator=draw) for module, f in modules.items()}}


def make_layer_weights(experts: Mapping[str, LoraState], space: str, seed: int) -> Measured:
    """One fitted weight per expert and layer."""
    depth = layer_count(next(iter(experts.values())))
    return {name: {"layer": torch.rand(depth, generator=_generator(seed, name))} for name in experts}


MEASURED = {
    "gram": make_gram,
    "fisher": make_fisher,
    "channels": make_channels,
    "alignment": make_layer_weights,
    "entropy": make_layer_weights,
}


def cases() -> list[tuple[str, str, str | None]]:
    """Every registered merge in each of its spaces and granularities: (name, space, granularity)."""
    found: list[tuple[str, str, str | None]] = []
    for name in MERGES.names():
        info = MERGES.get(name).info
        granularities = info.granularities or (None,)
        found += [(name, space, granularity) for space in info.spaces for granularity in granularities]
    return found


def default_settings(name: str, **changes: Any) -> Any:
    """The merge's published settings, with changes."""
    return replace(MERGES.get(name).settings(), **changes)


def distance(found: Update, expected: Mapping[str, Tensor]) -> float:
    """Largest relative Frobenius distance between an adapter's updates and given dense ones."""
    return max(
        float((dense(found)[module] - delta).norm() / delta.norm().clamp_min(1e-12))
        for module, delta in expected.items()
    )


def dense(state: Update) -> dict[str, Tensor]:
    """Module -> dense update in double precision."""
    if isinstance(state, DenseState):
        return {module: update.double() for module, update in state.modules.items()}
    return {module: f.scale * f.b.double() @ f.a.double() for module, f in state.modules.items()}


def tolerance(dtype: torch.dtype) -> float:
    """Relative error that storing factors in ``dtype`` may cause: a few roundings."""
    return 3e-2 if dtype == torch.bfloat16 else 1e-5
