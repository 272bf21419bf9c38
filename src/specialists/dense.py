"""Dense weight updates: what a merge leaves whose result has no low rank. They are added to the backbone's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from src.errors import AdapterError
from src.specialists.lora import LoraFactors, LoraState, delta_name


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
        """The updates under the names they are stored by."""
        return {delta_name(module): update for module, update in self.modules.items()}

    def kept(self) -> DenseState:
        """The same with every update in memory, computed once."""
        return replace(self, modules=dict(self.modules.items()))


Update = LoraState | DenseState
"""What a merge leaves: an adapter, or dense updates."""


class OnDemand(Mapping[str, Tensor]):
    """Updates that are computed each time they are asked for, so that one module's is in memory at a time."""

    def __init__(self, names: list[str], compute: Callable[[str], Tensor]) -> None:
        self._names, self._compute = names, compute

    def __getitem__(self, module: str) -> Tensor:
        if module not in self._names:
            raise KeyError(module)
        return self._compute(module)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def checked(state: DenseState, name: str, shapes: Mapping[str, tuple[int, ...]]) -> DenseState:
    """The same updates, each checked when it is read.

    Raises:
        AdapterError: at once if modules are missing or added; on reading if a shape differs or a value is not finite.
    """
    lacking, extra = sorted(set(shapes) - set(state.modules)), sorted(set(state.modules) - set(shapes))
    if lacking or extra:
        raise AdapterError(f"{name} lacks {', '.join(lacking) or 'nothing'} and adds {', '.join(extra) or 'nothing'}")

    def read(module: str) -> Tensor:
        update = state.modules[module]
        if tuple(update.shape) != shapes[module] or not torch.isfinite(update).all():
            raise AdapterError(
                f"{name}: the update of {module} is {tuple(update.shape)} and must be {shapes[module]}, without NaN or "
                "infinite values"
            )
        return update

    return replace(state, modules=OnDemand(list(state.modules), read))


def as_adapter(state: DenseState) -> LoraState:
    """The same updates as factors that PEFT loads: of full rank, one of each pair the identity, nothing lost."""
    return LoraState({m: _full_rank(update) for m, update in state.modules.items()}, state.base_model, state.notes)


def _full_rank(update: Tensor) -> LoraFactors:
    height, width = update.shape
    if width <= height:
        return LoraFactors(torch.eye(width, dtype=update.dtype, device=update.device), update, 1.0)
    return LoraFactors(update, torch.eye(height, dtype=update.dtype, device=update.device), 1.0)
