"""What must hold of every merge, as functions of one case and one shape of experts.

Each raises ``AssertionError`` where its invariant is broken. Those that do not concern a case do nothing there:
``applies`` of each entry of ``INVARIANTS`` says which do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esmerge.adapters.dense import DenseState, Update
from esmerge.adapters.lora import LoraState, delta_name
from esmerge.coefficients.types import Coefficients
from esmerge.merging.ops.space import tensor_weights
from esmerge.testing.case import Case, dense, require, require_close, tolerance
from esmerge.testing.inputs import BASE, Shape, experts_of, make_experts
from esmerge.testing.refusals import (
    misfits_are_refused_by_name,
    other_ranks_and_scales_are_refused,
    other_spaces_are_refused,
)

SHARP = 1e-9  # temperature of a softmax that leaves one expert


def every_tensor_is_merged(case: Case, shape: Shape) -> None:
    """Every module of the experts, in its shape and number format, finite, for the experts' backbone."""
    experts = experts_of(shape)
    state = case.merged(experts)
    modules = next(iter(experts.values())).modules
    require(state.base_model == BASE, f"base_model is {state.base_model!r}, the experts' is {BASE!r}")
    require(list(state.modules) == list(modules), f"modules are {list(state.modules)}, expected {list(modules)}")
    for module, factors in modules.items():
        expected = (factors.b.shape[0], factors.a.shape[1])
        for tensor in _stored(state, module):
            require(tensor.dtype == shape.dtype, f"{module} is {tensor.dtype}, the experts are {shape.dtype}")
            require(bool(torch.isfinite(tensor).all()), f"{module} holds NaN or infinite values")
        update = tuple(dense(state)[module].shape)
        require(update == expected, f"the update of {module} is {update}, expected {expected}")


def order_does_not_matter(case: Case, shape: Shape, order: Sequence[int] | None = None) -> None:
    """The same experts in another order give the same merge; ``order`` is a permutation of their indices."""
    experts = experts_of(shape)
    inputs = case.inputs(experts)
    names = [list(experts)[index] for index in (order or range(len(experts) - 1, -1, -1))]
    signals = inputs.signals and replace(
        inputs.signals,
        experts=tuple(names),
        own=tuple(inputs.signals.own[inputs.signals.experts.index(name)] for name in names),
    )
    moved = replace(inputs, experts={name: experts[name] for name in names}, signals=signals)
    require_close(case.merge(moved).state, dense(case.merge(inputs).state), shape.dtype, f"in the order {names}")


def coefficients_are_convex(case: Case, shape: Shape) -> None:
    """Coefficients are at least 0 and sum to 1 over the experts at every entry."""
    coefficients = case.merge(case.inputs(experts_of(shape))).coefficients
    if coefficients is None:
        require(not case.info.needs_signals, "it weighs by signals and does not return its coefficients")
        return
    for key, stacked in _by_tensor(coefficients).items():
        require(len(stacked) == shape.count, f"{key} has coefficients of {len(stacked)} of {shape.count} experts")
        require(bool((stacked >= 0).all()), f"{key} has negative coefficients")
        worst = float((stacked.sum(dim=0) - 1).abs().max())
        require(worst <= 1e-5, f"the coefficients of {key} miss a sum of 1 over the experts by {worst:.2g}")


def identical_experts_return_themselves(case: Case, shape: Shape) -> None:
    """N times the same expert is that expert, at scale 1."""
    expert = next(iter(experts_of(shape).values()))
    state = case.merged({f"copy{i}": expert for i in range(shape.count)}, scale=1.0)
    require_close(state, dense(expert), shape.dtype, f"{shape.count} copies of one expert")


def one_hot_weights_return_that_expert(case: Case, shape: Shape) -> None:
    """Where the coefficients leave one expert, the merge is that expert at scale 1: exactly, up to matrix products."""
    experts = experts_of(shape)
    sharp = {"tau": SHARP} if case.granularity == "element" else {"temperature": SHARP}
    merged = case.merge(case.inputs(experts, constants=sharp), case.settings(scale=1.0))
    require(merged.coefficients is not None, "it weighs by signals and does not return its coefficients")
    weights = tensor_weights(merged.coefficients or Coefficients({}, {}), experts, case.space)
    expected, combined = _weighted(experts, weights, case.space), _combined(merged.state, case.space)
    for key, tensor in expected.items():
        values = {value for tensors in weights.values() for value in tensors[key].unique().tolist()}
        require(values <= {0.0, 1.0}, f"a temperature of {SHARP} leaves {key} weights other than 0 and 1: {values}")
        error = float((combined[key] - tensor).abs().max())
        bound = tolerance(shape.dtype) * float(tensor.abs().max()) if case.space == "delta" else 0.0
        require(error <= bound, f"{key} is off by {error:.2g} from the experts that it is made of")


def spaces_agree_where_experts_share_a(case: Case, shape: Shape, scale: float = 3.0) -> None:
    """Merging factors and merging updates is the same where all experts have one A."""
    experts = experts_of(shape, shared_a=True)
    factors, delta = (replace(case, space=space).merged(experts, scale=scale) for space in ("factors", "delta"))
    require_close(factors, dense(delta), shape.dtype, f"factor against delta space at scale {scale:g}")


def scale_multiplies_the_task_vector(case: Case, shape: Shape, scale: float = 2.0) -> None:
    """``scale`` times the update, in either space."""
    experts = experts_of(shape)
    plain = dense(case.merged(experts, scale=1.0))
    expected = {module: scale * delta for module, delta in plain.items()}
    require_close(case.merged(experts, scale=scale), expected, shape.dtype, f"at scale {scale:g}")


def rank_leaves_the_best_adapter(case: Case, shape: Shape, rank: int = 1) -> None:
    """``rank`` leaves an adapter that is as close to the whole update as any of its rank (Eckart and Young)."""
    experts = experts_of(replace(shape, dtype=torch.float32))
    updates, short = dense(case.merged(experts)), case.merged(experts, rank=rank)
    require(isinstance(short, LoraState), f"rank={rank} leaves a {type(short).__name__}, expected an adapter")
    for module, update in dense(short).items():
        module_rank = _rank(short, module)
        require(module_rank <= max(rank, shape.rank), f"rank={rank} leaves {module} at rank {module_rank}")
        values = torch.linalg.svdvals(updates[module])
        least, error = float(values[rank:].square().sum().sqrt()), float((update - updates[module]).norm())
        bound = least + 1e-4 * float(values.norm())
        require(error <= bound, f"rank={rank} leaves {module} off by {error:.3g}, {least:.3g} is possible")


def same_seed_same_merge(case: Case, shape: Shape) -> None:
    """Two calls with one seed give equal bits, and leave the experts as they were."""
    experts = experts_of(shape)
    before = {name: {key: t.clone() for key, t in state.tensors().items()} for name, state in experts.items()}
    inputs = case.inputs(experts, seed=5)
    first, second = (dict(case.merge(inputs).state.tensors().items()) for _ in range(2))
    for name, tensors in before.items():
        for key, tensor in experts[name].tensors().items():
            require(torch.equal(tensors[key], tensor), f"{key} of {name} was changed in place")
    for key, tensor in first.items():
        require(torch.equal(tensor, second[key]), f"{key} differs between two calls with one seed")


def any_ranks_and_scales_merge(case: Case, shape: Shape) -> None:
    """In delta space an update counts, not the rank and scale that it is written with."""
    narrow = make_experts(2, shape.layers, 1, shape.dtype, shape.seed, scale=1.0)
    broad = make_experts(2, shape.layers, 4, shape.dtype, shape.seed + 1, scale=0.5)
    experts = {"expert2": narrow["expert2"], "expert1": broad["expert1"]}
    folded = {name: _folded(state) for name, state in experts.items()}  # scales of 0.5 and 1 lose no digit
    expected = dense(case.merged(experts))
    require_close(case.merged(folded), expected, shape.dtype, "with every LoRA scale folded into B")


def _folded(state: LoraState) -> LoraState:
    modules = {module: replace(f, b=f.scale * f.b, scale=1.0) for module, f in state.modules.items()}
    return replace(state, modules=modules)


def _stored(state: Update, module: str) -> list[Tensor]:
    """The tensors that a module's update is stored as."""
    if isinstance(state, DenseState):
        return [state.modules[module]]
    factors = state.modules[module]
    return [factors.a, factors.b]


def _rank(state: Update, module: str) -> int:
    return 0 if isinstance(state, DenseState) else state.modules[module].rank


def _by_tensor(coefficients: Coefficients) -> dict[str, Tensor]:
    """``layer`` or tensor name -> coefficients of all experts, (N, *shape)."""
    groups: dict[str, list[Tensor]] = {}
    for expert, layer in coefficients.layer.items():
        groups.setdefault("layer", []).append(layer)
        for key, elements in coefficients.elements.get(expert, {}).items():
            groups.setdefault(key, []).append(elements)
    return {key: torch.stack(parts) for key, parts in groups.items()}


def _combined(state: Update, space: str) -> dict[str, Tensor]:
    """Name -> what a merge in ``space`` combines: factors or updates, in double precision."""
    if space == "delta":
        return {delta_name(module): update for module, update in dense(state).items()}
    return {key: tensor.double() for key, tensor in state.tensors().items()}


def _weighted(
    experts: Mapping[str, LoraState], weights: Mapping[str, Mapping[str, Tensor]], space: str
) -> dict[str, Tensor]:
    """Weighted sum of the experts' factors or updates, in double precision."""
    parts = {name: _combined(state, space) for name, state in experts.items()}
    keys = next(iter(parts.values()))
    return {
        key: sum((weights[name][key] * tensors[key] for name, tensors in parts.items()), torch.zeros(()))
        for key in keys
    }


@dataclass(frozen=True)
class Invariant:
    """A check, and the cases that it concerns."""

    check: Callable[[Case, Shape], None]
    applies: Callable[[Case], bool] = lambda case: True

    @property
    def name(self) -> str:
        """What it says, in words."""
        return self.check.__name__.replace("_", " ")


def in_delta_space(case: Case) -> bool:
    return case.space == "delta"


def in_factor_space(case: Case) -> bool:
    return case.space == "factors"


def is_convex(case: Case) -> bool:
    return case.info.convex


def reads_signals(case: Case) -> bool:
    return case.info.needs_signals


def is_layerwise(case: Case) -> bool:
    """Convex merges of both spaces with one weight per expert and layer; a case of either space stands for both."""
    merges_both = {"factors", "delta"} <= set(case.info.spaces)
    return merges_both and is_convex(case) and not case.info.elementwise and case.granularity in (None, "layer")


INVARIANTS = (
    Invariant(every_tensor_is_merged),
    Invariant(order_does_not_matter),
    Invariant(coefficients_are_convex),
    Invariant(identical_experts_return_themselves, is_convex),
    Invariant(one_hot_weights_return_that_expert, reads_signals),
    Invariant(spaces_agree_where_experts_share_a, lambda case: is_layerwise(case) and in_factor_space(case)),
    Invariant(scale_multiplies_the_task_vector),
    Invariant(rank_leaves_the_best_adapter, in_delta_space),
    Invariant(same_seed_same_merge),
    Invariant(misfits_are_refused_by_name),
    Invariant(other_ranks_and_scales_are_refused, in_factor_space),
    Invariant(any_ranks_and_scales_merge, in_delta_space),
    Invariant(other_spaces_are_refused),
)
