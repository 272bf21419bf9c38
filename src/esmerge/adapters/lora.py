"""The state of a LoRA adapter: its factors, its scale, and what must hold before adapters can be merged.

A module name is the path PEFT gives an adapted linear layer, e.g.
``base_model.model.model.layers.0.self_attn.q_proj``; its factors are stored as ``<module>.lora_A.weight`` and
``<module>.lora_B.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from esmerge.core.errors import AdapterError
from esmerge.core.finite import all_finite
from esmerge.core.lazy import LazyMapping

PREFIX = "base_model.model."  # PEFT's name of the model it wraps; patterns in its configs leave it out
SPACES = ("factors", "delta")


@dataclass(frozen=True)
class LoraFactors:
    """One adapted linear layer: ``delta = scale * b @ a``.

    Attributes:
        a: (rank, in_features).
        b: (out_features, rank).
        scale: alpha / rank, or alpha / sqrt(rank) for rsLoRA.
    """

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    def delta(self) -> Tensor:
        """The dense weight update, (out_features, in_features)."""
        return self.scale * (self.b @ self.a)


@dataclass(frozen=True)
class LoraState:
    """All factors of one adapter, keyed by module name.

    Attributes:
        modules: module name -> factors, in the backbone's order; may be computed or read on demand.
        base_model: name or path of the backbone that the adapter was trained on, if known.
        notes: facts worth a line in the model card, e.g. the residual of a truncation.
    """

    modules: Mapping[str, LoraFactors]
    base_model: str | None = None
    notes: Mapping[str, float | int | str] = field(default_factory=dict)

    def tensors(self) -> Mapping[str, Tensor]:
        """The factors under the names PEFT stores them by; on demand where the modules are, each module read once."""
        names = {factor_name(module, half): (module, half.lower()) for module in self.modules for half in "AB"}
        last: dict[str, LoraFactors] = {}

        def factor(name: str) -> Tensor:
            module, half = names[name]
            if module not in last:
                last.clear()
                last[module] = self.modules[module]
            return getattr(last[module], half)  # type: ignore[no-any-return]

        return LazyMapping(names, factor)

    def materialize(self) -> LoraState:
        """The same with all factors in memory, computed or read once."""
        return replace(self, modules=dict(self.modules.items()))

    def norm_ratio(self, weights: Mapping[str, Tensor]) -> float:
        """Frobenius norm of the update over that of ``weights`` (module name -> backbone weight), modules pooled."""
        update = sum(float(f.delta().float().square().sum()) for f in self.modules.values())
        backbone = sum(float(weights[name].float().square().sum()) for name in self.modules)
        return (update / backbone) ** 0.5


def factor_name(module: str, factor: str) -> str:
    """PEFT's tensor name of factor ``"A"`` or ``"B"`` of a module."""
    return f"{module}.lora_{factor}.weight"


def delta_name(module: str) -> str:
    """The name under which coefficients on a module's dense update are stored."""
    return f"{module}.delta"


def layer_of(module: str) -> int:
    """Decoder layer that a module belongs to: the first number in its path.

    Raises:
        AdapterError: the path holds no layer number.
    """
    for part in module.split("."):
        if part.isdigit():
            return int(part)
    raise AdapterError(f"module {module!r} has no layer number in its path: only decoder layers can be merged")


def layer_count(state: LoraState) -> int:
    """Number of decoder layers the adapter reaches, counted from layer 0."""
    return 1 + max(layer_of(module) for module in state.modules)


def check_finite(state: LoraState, name: str) -> None:
    """Raise ``AdapterError`` naming every tensor of adapter ``name`` that holds NaN or infinity."""
    bad = [key for key, tensor in state.tensors().items() if not all_finite(tensor)]
    if bad:
        raise AdapterError(f"adapter {name!r} holds NaN or infinite values in {some(bad)}: retrain or re-export it")


def check_mergeable(experts: Mapping[str, LoraState], space: str, fold_scales: bool = False) -> None:
    """Refuse experts that cannot be merged in ``space``, by name.

    Args:
        experts: at least two adapters.
        space: ``"factors"`` (same rank and scale needed) or ``"delta"`` (any rank, any scale).
        fold_scales: in factor space, accept different scales; the caller folds them into ``b``.

    Raises:
        AdapterError: fewer than two experts, or modules, shapes, ranks, scales or values that do not fit.
    """
    if len(experts) < 2:
        raise AdapterError(f"a merge needs at least two experts, got {list(experts) or 'none'}")
    for name, state in experts.items():
        check_finite(state, name)
    (first, reference), *others = experts.items()
    for name, state in others:
        _check_modules(first, reference, name, state)
        for module, factors in state.modules.items():
            _check_factors(module, first, reference.modules[module], name, factors, space, fold_scales)


def _check_modules(first: str, reference: LoraState, name: str, state: LoraState) -> None:
    missing = sorted(set(reference.modules) - set(state.modules))
    extra = sorted(set(state.modules) - set(reference.modules))
    if missing or extra:
        raise AdapterError(
            f"adapters {first!r} and {name!r} adapt different modules: {name!r} lacks {some(missing)} and adds "
            f"{some(extra)}; train them with the same target_modules"
        )


def _check_factors(
    module: str, first: str, ours: LoraFactors, name: str, theirs: LoraFactors, space: str, fold_scales: bool
) -> None:
    widths = (ours.b.shape[0], ours.a.shape[1]), (theirs.b.shape[0], theirs.a.shape[1])
    if widths[0] != widths[1]:
        raise AdapterError(
            f"{module}: {first!r} updates a {widths[0]} weight, {name!r} a {widths[1]} one; are they of one backbone?"
        )
    if space != "factors":
        return
    if ours.rank != theirs.rank:
        raise AdapterError(
            f"{module}: {first!r} has rank {ours.rank}, {name!r} rank {theirs.rank}; factors of different rank cannot "
            "be combined, use merge_space=delta"
        )
    if ours.scale != theirs.scale and not fold_scales:
        raise AdapterError(
            f"{module}: {first!r} has LoRA scale {ours.scale:g}, {name!r} {theirs.scale:g}; use merge_space=delta, or "
            "fold the scales into the factors with method.fold_scales=true"
        )


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    if not names:
        return "nothing"
    tail = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + tail
