"""Dense weight updates: what a merge leaves whose result has no low rank. They are added to the backbone's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState, delta_name
from esmerge.core.errors import AdapterError
from esmerge.core.finite import all_finite, number_format
from esmerge.core.lazy import LazyMapping

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # what a weight can be stored in and added to


@dataclass(frozen=True)
class DenseState:
    """Dense updates of linear modules.

    Attributes:
        modules: module name -> update, (out_features, in_features); may be computed on demand.
        base_model: name or path of the backbone, if known.
        notes: facts worth a line in the model card.
    """

    modules: Mapping[str, Tensor]
    base_model: str | None = None
    notes: Mapping[str, float | int | str] = field(default_factory=dict)

    def tensors(self) -> Mapping[str, Tensor]:
        """The updates under the names they are stored by, computed on demand where the modules are."""
        modules = {delta_name(module): module for module in self.modules}
        return LazyMapping(list(modules), lambda name: self.modules[modules[name]])

    def materialize(self) -> DenseState:
        """The same with every update in memory, computed once."""
        return replace(self, modules=dict(self.modules.items()))


Update = LoraState | DenseState
"""What a merge leaves: an adapter, or dense updates."""


def checked(state: DenseState, name: str, shapes: Mapping[str, tuple[int, ...]]) -> DenseState:
    """The same updates, each checked when it is read.

    Raises:
        AdapterError: at once if modules are missing or added; on reading if a shape differs or a value is not finite.
    """
    missing, extra = sorted(set(shapes) - set(state.modules)), sorted(set(state.modules) - set(shapes))
    if missing or extra:
        raise AdapterError(f"{name} lacks {', '.join(missing) or 'nothing'} and adds {', '.join(extra) or 'nothing'}")

    def read(module: str) -> Tensor:
        update = state.modules[module]
        if tuple(update.shape) != shapes[module] or not all_finite(update):
            raise AdapterError(
                f"{name}: the update of {module} is {tuple(update.shape)} and must be {shapes[module]}, without NaN or "
                f"infinite values in {number_format(update.dtype)}"
            )
        return update

    return replace(state, modules=LazyMapping(list(state.modules), read))


def added(module: str, weight: Tensor, update: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A weight plus its update, summed in at least float32 on the weight's device and rounded once.

    Args:
        module: its name, for error messages.
        weight: (out_features, in_features).
        update: of the same shape.
        dtype: of the sum; the weight's own by default.

    Raises:
        AdapterError: the shapes differ, or the weight is quantised.
    """
    if weight.dtype not in FLOATS:
        raise AdapterError(f"{module}: the weight is quantised ({weight.dtype}): load or save the backbone dequantised")
    if weight.shape != update.shape:
        raise AdapterError(f"{module}: the update is {tuple(update.shape)}, the weight {tuple(weight.shape)}")
    wide = torch.promote_types(torch.promote_types(weight.dtype, update.dtype), torch.float32)
    return (weight.to(wide) + update.to(weight.device, wide)).to(dtype or weight.dtype)


def as_adapter(state: DenseState) -> LoraState:
    """The same updates as factors that PEFT loads: of full rank, one of each pair the identity, nothing lost."""
    factors = LazyMapping(state.modules, lambda module: _full_rank(state.modules[module]))
    return LoraState(factors, state.base_model, state.notes)


def _full_rank(update: Tensor) -> LoraFactors:
    height, width = update.shape
    if width <= height:
        return LoraFactors(torch.eye(width, dtype=update.dtype, device=update.device), update, 1.0)
    return LoraFactors(update, torch.eye(height, dtype=update.dtype, device=update.device), 1.0)
