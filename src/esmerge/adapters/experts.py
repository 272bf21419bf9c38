"""Experts that fit each other: looked at once, where a merge begins, and trusted from there on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch

from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import LazyModules, LoraState, check_finite, finite_when_read, some
from esmerge.core.errors import AdapterError


class ValidatedExperts(Mapping[str, LoraState]):
    """Two or more adapters that can be merged in a space, by name; ``validate_experts`` alone makes it.

    Values that are read from disk or computed are looked through the first time they are read: NaN and infinity raise
    ``AdapterError`` then, so no result comes of them.

    Attributes:
        space: in which they can be merged.
        fold_scales: whether, in factor space, they may have different scales.
    """

    def __init__(self, states: Mapping[str, LoraState], space: str, fold_scales: bool) -> None:
        self._states, self.space, self.fold_scales = dict(states), space, fold_scales

    def __getitem__(self, name: str) -> LoraState:
        return self._states[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While it lasts, every adapter on disk is read through one open handle, which is closed at the end."""
        with ExitStack() as files:
            for state in self._states.values():
                files.enter_context(state.reading())
            yield

    def on_device(self, device: torch.device) -> ValidatedExperts:
        """The same experts, each module moved to a device when it is read."""
        states = {name: state.on_device(device) for name, state in self._states.items()}
        return ValidatedExperts(states, self.space, self.fold_scales)

    def fit(self, space: str, fold_scales: bool) -> bool:
        """Whether they can be merged so, too; what fits in factor space fits in delta space."""
        return space == "delta" or (space == self.space and fold_scales >= self.fold_scales)


def validate_experts(experts: Mapping[str, LoraState], space: str, fold_scales: bool = False) -> ValidatedExperts:
    """Refuse experts that cannot be merged in ``space``, by name; experts that were validated for it pass as they are.

    Headers are held against each other at once, and values in memory are looked through; values that are read from disk
    or computed are looked through when they are first read.

    Args:
        experts: at least two adapters.
        space: ``"factors"`` (same rank and scale needed) or ``"delta"`` (any rank, any scale).
        fold_scales: in factor space, accept different scales; the caller folds them into ``b``.

    Raises:
        AdapterError: fewer than two experts, or modules, shapes, ranks, scales or values that do not fit.
    """
    if isinstance(experts, ValidatedExperts) and experts.fit(space, fold_scales):
        return experts
    check_compatible(experts, space, fold_scales)
    return ValidatedExperts({name: _finite(state, name) for name, state in experts.items()}, space, fold_scales)


def check_compatible(experts: Mapping[str, LoraState], space: str, fold_scales: bool = False) -> None:
    """Hold the headers of experts against each other, without a look at their values; see ``validate_experts``."""
    if len(experts) < 2:
        raise AdapterError(f"a merge needs at least two experts, got {list(experts) or 'none'}")
    (first, reference), *others = experts.items()
    first_header = reference.header
    for name, state in others:
        _check_modules(first, reference, name, state)
        for module, module_header in state.header.items():
            _check_headers(module, first, first_header[module], name, module_header, space, fold_scales)


def _finite(state: LoraState, name: str) -> LoraState:
    if isinstance(state.modules, LazyModules):
        return finite_when_read(state, name)
    check_finite(state, name)
    return state


def _check_modules(first: str, reference: LoraState, name: str, state: LoraState) -> None:
    missing = sorted(set(reference.modules) - set(state.modules))
    extra = sorted(set(state.modules) - set(reference.modules))
    if missing or extra:
        raise AdapterError(
            f"adapters {first!r} and {name!r} adapt different modules: {name!r} lacks {some(missing)} and adds "
            f"{some(extra)}; train them with the same target_modules"
        )


def _check_headers(
    module: str, first: str, expected: ModuleHeader, name: str, actual: ModuleHeader, space: str, fold_scales: bool
) -> None:
    if expected.shape != actual.shape:
        raise AdapterError(
            f"{module}: {first!r} updates a {expected.shape} weight, {name!r} a {actual.shape} one; are they of one "
            "backbone?"
        )
    if space != "factors":
        return
    if expected.rank != actual.rank:
        raise AdapterError(
            f"{module}: {first!r} has rank {expected.rank}, {name!r} rank {actual.rank}; factors of different rank "
            "cannot be combined, use merge_space=delta"
        )
    if expected.scale != actual.scale and not fold_scales:
        raise AdapterError(
            f"{module}: {first!r} has LoRA scale {expected.scale:g}, {name!r} {actual.scale:g}; use merge_space=delta, "
            "or fold the scales into the factors with method.fold_scales=true"
        )
