"""Weighted sums of experts in the two merge spaces: LoRA factors (A and B apart) and dense updates (s · B @ A)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from esmerge.adapters.dense import DenseState, Update
from esmerge.adapters.header import AdapterHeader, ModuleHeader
from esmerge.adapters.lora import SPACES, LazyModules, LoraFactors, LoraState, delta_name, factor_name
from esmerge.coefficients.types import Coefficients
from esmerge.core.errors import ConfigError
from esmerge.core.lazy import LazyMapping
from esmerge.core.names import layer_of
from esmerge.merging.ops.low_rank import (
    Factored,
    assemble,
    common_base,
    common_dtype,
    factorise,
    shorten,
    stack,
    stack_header,
    wide,
)
from esmerge.merging.ops.settings import EXACT, ConvexSettings

Weights = Mapping[str, Mapping[str, Tensor]]
"""Expert -> tensor name -> a 0-dimensional weight or one weight per entry."""


def tensor_shapes(state: LoraState, space: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of everything that a merge combines in ``space``."""
    check_space(space)
    if space == "factors":
        halves = ((module, half) for module in state.header for half in "AB")
        return {factor_name(module, half): state.header[module].factor_shape(half) for module, half in halves}
    return {delta_name(module): entry.shape for module, entry in state.header.items()}


def check_space(space: str) -> None:
    """Raise ``ConfigError`` unless ``space`` is a merge space."""
    if space not in SPACES:
        raise ConfigError(f"unknown merge_space {space!r}: expected one of {', '.join(SPACES)}")


def equal_weights(experts: Mapping[str, LoraState], space: str, value: float) -> dict[str, dict[str, Tensor]]:
    """The same weight ``value`` for every tensor of every expert."""
    weight = torch.tensor(value, dtype=torch.float64)
    return {name: dict.fromkeys(tensor_shapes(state, space), weight) for name, state in experts.items()}


def tensor_weights(
    coefficients: Coefficients, experts: Mapping[str, LoraState], space: str
) -> dict[str, dict[str, Tensor]]:
    """Weights of each tensor: its element-wise coefficients where there are any, else its layer's coefficient."""
    return {
        name: {
            key: coefficients.elements[name][key] if coefficients.elements else coefficients.layer[name][layer_of(key)]
            for key in tensor_shapes(state, space)
        }
        for name, state in experts.items()
    }


def combine(experts: Mapping[str, LoraState], space: str, weights: Weights, settings: ConvexSettings) -> Update:
    """``scale`` times the weighted sum of the experts in ``space``, with the experts' number format."""
    check_space(space)
    if space == "factors":
        return combine_factors(experts, weights, settings.scale, settings.fold_scales)
    return combine_deltas(experts, weights, settings.scale, settings.rank)


def combine_factors(
    experts: Mapping[str, LoraState], weights: Weights, scale: float = 1.0, fold_scales: bool = False
) -> LoraState:
    """``A* = √scale · Σ w_i ⊙ A_i`` and likewise B*, computed when they are read.

    The experts' LoRA scale is kept (1 if the scales are folded).
    """
    dtype = common_dtype(experts)
    if fold_scales:
        experts = {name: _folded(state) for name, state in experts.items()}
    tensors = {name: state.tensors() for name, state in experts.items()}
    first = next(iter(experts.values()))
    header = {module: replace(entry, a_dtype=dtype, b_dtype=dtype) for module, entry in first.header.items()}

    def merged(key: str) -> Tensor:
        """Stored narrow at once: all sums together are twice the size of a half-precision adapter."""
        pairs = ((weights[name][key], wide(expert_tensors[key])) for name, expert_tensors in tensors.items())
        return _weighted_sum(pairs).mul_(scale**0.5).to(dtype)

    def factors(module: str) -> LoraFactors:
        a, b = (merged(factor_name(module, half)) for half in "AB")
        return LoraFactors(a, b, header[module].scale)

    return LoraState(LazyModules(header, factors, header), common_base(experts))


def combine_deltas(
    experts: Mapping[str, LoraState], weights: Weights, scale: float = 1.0, rank: str | int = EXACT
) -> Update:
    """``scale · Σ w_i ⊙ ΔW_i``: low-rank throughout with one weight per expert and module, dense with one per entry."""
    modules = list(next(iter(experts.values())).modules)
    if all(weights[name][delta_name(module)].ndim == 0 for name in experts for module in modules):
        stored = common_dtype(experts)
        summed = torch.promote_types(stored, torch.float32)
        header = {module: _stacked_header(experts, weights, module, scale, stored) for module in modules}
        return low_rank_state(experts, lambda module: _stacked(experts, weights, module, scale, summed), rank, header)

    def update(module: str) -> Tensor:
        key = delta_name(module)
        pairs = ((weights[name][key], dense_delta(state.modules[module])) for name, state in experts.items())
        return scale * _weighted_sum(pairs)

    return dense_state(experts, update, rank)


def low_rank_state(
    experts: Mapping[str, LoraState],
    factors: Callable[[str], LoraFactors],
    rank: str | int,
    header: AdapterHeader | None = None,
) -> LoraState:
    """An adapter of low-rank updates, given module by module.

    Args:
        factors: module name -> factors of the merged update; of any number format.
        rank: ``exact`` keeps them as they are, computed when they are read; a number truncates them.
        header: of the factors in the experts' number format, if it is known before they are computed.
    """
    dtype, modules = common_dtype(experts), next(iter(experts.values())).modules

    if rank == EXACT:
        stored = LazyModules(modules, lambda module: _stored(factors(module), dtype), header)
        return LoraState(stored, common_base(experts))
    merged = {}
    for module in modules:
        module_factors = factors(module)
        narrow = module_factors.rank <= int(rank)
        merged[module] = (
            Factored(_stored(module_factors, dtype)) if narrow else shorten(module_factors, int(rank), dtype)
        )
    return assemble(experts, merged)


def dense_state(experts: Mapping[str, LoraState], update: Callable[[str], Tensor], rank: str | int) -> Update:
    """Dense updates, given module by module: computed when they are read, or truncated to an adapter.

    Args:
        update: module name -> merged update, (out_features, in_features); called again whenever it is read.
        rank: ``exact`` leaves dense updates, a number leaves an adapter by truncated SVD, with the residual noted.
    """
    dtype, modules = common_dtype(experts), list(next(iter(experts.values())).modules)
    if rank == EXACT:
        return DenseState(LazyMapping(modules, lambda module: update(module).to(dtype)), common_base(experts))
    return assemble(experts, {module: factorise(update(module), int(rank), dtype) for module in modules})


def dense_delta(factors: LoraFactors) -> Tensor:
    """The dense update in at least float32, (out_features, in_features)."""
    return factors.scale * (wide(factors.b) @ wide(factors.a))


def _stored(factors: LoraFactors, dtype: torch.dtype) -> LoraFactors:
    return LoraFactors(factors.a.to(dtype), factors.b.to(dtype), factors.scale)


def _weighted_sum(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    # a single number is left where it is: a GPU reads it off the host without a copy
    products = (
        (weight.to(tensor.dtype) if weight.ndim == 0 else weight.to(tensor)) * tensor for weight, tensor in pairs
    )
    total = next(products).add_(0.0)  # 0 + x: a negative zero becomes a positive one
    for product in products:
        total.add_(product)
    return total


def _weight(weight: Tensor, tensor: Tensor) -> Tensor:
    """A weight in a tensor's number format; a single number stays in main memory, where a GPU reads it uncopied."""
    return weight.to(tensor.dtype) if weight.ndim == 0 else weight.to(tensor)


def _stacked(
    experts: Mapping[str, LoraState], weights: Weights, module: str, scale: float, dtype: torch.dtype
) -> LoraFactors:
    parts = [(scale * float(weights[name][delta_name(module)]), e.modules[module]) for name, e in experts.items()]
    return stack(parts, dtype)


def _stacked_header(
    experts: Mapping[str, LoraState], weights: Weights, module: str, scale: float, dtype: torch.dtype
) -> ModuleHeader:
    parts = [(scale * float(weights[name][delta_name(module)]), e.header[module]) for name, e in experts.items()]
    return stack_header(parts, dtype)


def _folded(state: LoraState) -> LoraState:
    def factors(module: str) -> LoraFactors:
        unfolded = state.modules[module]
        return LoraFactors(unfolded.a, unfolded.scale * wide(unfolded.b), 1.0)

    header = {
        module: replace(entry, b_dtype=torch.promote_types(entry.b_dtype, torch.float32), scale=1.0)
        for module, entry in state.header.items()
    }
    return replace(state, modules=LazyModules(header, factors, header))
