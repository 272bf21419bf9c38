"""Random adapters and probe signals for the tests of merges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from src.coefficients.signals import Granularity, Signals
from src.merging import MERGES, MergeInput
from src.merging.space import tensor_shapes
from src.specialists.lora import LoraFactors, LoraState

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
    """What merge ``name`` needs to run on ``experts``, signals only where it uses them."""
    if not MERGES.get(name).facts["needs_signals"]:
        return MergeInput(experts, space, seed)
    signals = make_signals(experts, space, seed)
    return MergeInput(experts, space, seed, signals, Granularity(granularity or "joint", projections=PROJECTIONS))


def cases() -> list[tuple[str, str, str | None]]:
    """Every registered merge in each of its spaces and granularities: (name, space, granularity)."""
    found: list[tuple[str, str, str | None]] = []
    for name in MERGES.names():
        facts = MERGES.get(name).facts
        granularities = facts.get("granularities", ("layer",)) if facts["needs_signals"] else (None,)
        found += [(name, space, granularity) for space in facts["spaces"] for granularity in granularities]
    return found


def default_settings(name: str, **changes: Any) -> Any:
    """The merge's published settings, with changes."""
    return replace(MERGES.get(name).settings(), **changes)


def distance(found: LoraState, expected: Mapping[str, Tensor]) -> float:
    """Largest relative Frobenius distance between an adapter's updates and given dense ones."""
    return max(
        float((dense(found)[module] - delta).norm() / delta.norm().clamp_min(1e-12))
        for module, delta in expected.items()
    )


def dense(state: LoraState) -> dict[str, Tensor]:
    """Module -> dense update in double precision."""
    return {module: f.scale * f.b.double() @ f.a.double() for module, f in state.modules.items()}


def tolerance(dtype: torch.dtype) -> float:
    """Relative error that storing factors in ``dtype`` may cause: a few roundings."""
    return 3e-2 if dtype == torch.bfloat16 else 1e-5
