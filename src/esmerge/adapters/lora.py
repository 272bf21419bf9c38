"""The state of a LoRA adapter: its factors and scales, in memory or read on demand, and its header.

A module name is the path PEFT gives an adapted linear layer, e.g.
``base_model.model.model.layers.0.self_attn.q_proj``; its factors are stored as ``<module>.lora_A.weight`` and
``<module>.lora_B.weight``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from esmerge.adapters.header import AdapterHeader, ModuleHeader
from esmerge.core.devices import moved
from esmerge.core.errors import AdapterError
from esmerge.core.finite import all_finite, number_format
from esmerge.core.lazy import LazyMapping
from esmerge.core.names import layer_of

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

    @property
    def header(self) -> ModuleHeader:
        return ModuleHeader(
            self.rank, int(self.a.shape[1]), int(self.b.shape[0]), self.a.dtype, self.b.dtype, self.scale
        )

    def delta(self) -> Tensor:
        """The dense weight update, (out_features, in_features)."""
        return self.scale * (self.b @ self.a)


class LazyModules(LazyMapping[LoraFactors]):
    """Factors that are computed, or read from disk, each time they are asked for.

    Args:
        names: of the modules, in order.
        compute: module -> factors.
        header: of every module, where it is known before the factors are.
        finite: whether ``compute`` itself refuses NaN and infinity.
        kept_open: gives a block in which what ``compute`` reads from disk is read through one open handle.
    """

    def __init__(
        self,
        names: Iterable[str],
        compute: Callable[[str], LoraFactors],
        header: AdapterHeader | None = None,
        finite: bool = False,
        kept_open: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__(names, compute)
        self.header, self.finite, self.kept_open = header, finite, kept_open


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

    @cached_property
    def header(self) -> AdapterHeader:
        """Rank, widths, number formats and scale of every module; no factor is read or computed for it.

        Raises:
            AdapterError: the factors are computed, and of what rank or scale they will be is not known before.
        """
        if not isinstance(self.modules, LazyMapping):
            return {module: factors.header for module, factors in self.modules.items()}
        if not isinstance(self.modules, LazyModules) or self.modules.header is None:
            raise AdapterError("the factors of this adapter are yet to be computed: materialize() it, or give a header")
        return self.modules.header

    def tensors(self) -> Mapping[str, Tensor]:
        """The factors under the names PEFT stores them by; on demand where the modules are, each module read once."""
        names = {factor_name(module, half): (module, half) for module in self.modules for half in "AB"}
        last: dict[str, LoraFactors] = {}

        def factor(name: str) -> Tensor:
            module, half = names[name]
            if module not in last:
                last.clear()
                last[module] = self.modules[module]
            return last[module].a if half == "A" else last[module].b

        return LazyMapping(names, factor)

    def materialize(self) -> LoraState:
        """The same with all factors in memory, computed or read once."""
        with self.reading():
            return replace(self, modules=dict(self.modules.items()))

    def reading(self) -> AbstractContextManager[None]:
        """A block in which an adapter on disk is read through one open handle, which is closed at its end."""
        return self.modules.kept_open() if isinstance(self.modules, LazyModules) else nullcontext()

    def on_device(self, device: torch.device) -> LoraState:
        """The same adapter, each module moved when it is read; itself where all of it is there already."""
        if not isinstance(self.modules, LazyMapping) and all(f.a.device == device for f in self.modules.values()):
            return self

        def read(module: str) -> LoraFactors:
            factors = self.modules[module]
            return LoraFactors(moved(factors.a, device), moved(factors.b, device), factors.scale)

        return self.passed_through(read, finite=isinstance(self.modules, LazyModules) and self.modules.finite)

    def passed_through(self, compute: Callable[[str], LoraFactors], finite: bool = False) -> LoraState:
        """The same adapter with ``compute`` between it and its reader.

        Args:
            compute: module -> factors with the header that they have here.
            finite: whether it refuses NaN and infinity.
        """
        lazy = isinstance(self.modules, LazyMapping)
        header = self.modules.header if isinstance(self.modules, LazyModules) else None if lazy else self.header
        return replace(self, modules=LazyModules(self.modules, compute, header, finite, self.reading))

    def norm_ratio(self, weights: Mapping[str, Tensor]) -> float:
        """Frobenius norm of the update over that of ``weights`` (module name -> backbone weight), modules pooled."""
        update = sum(float(f.delta().float().square().sum()) for f in self.modules.values())
        backbone = sum(float(weights[name].float().square().sum()) for name in self.modules)
        return float((update / backbone) ** 0.5)


def factor_name(module: str, factor: str) -> str:
    """PEFT's tensor name of factor ``"A"`` or ``"B"`` of a module."""
    return f"{module}.lora_{factor}.weight"


def delta_name(module: str) -> str:
    """The name under which coefficients on a module's dense update are stored."""
    return f"{module}.delta"


def layer_count(state: LoraState) -> int:
    """Number of decoder layers the adapter reaches, counted from layer 0."""
    return 1 + max(layer_of(module) for module in state.modules)


def check_finite(state: LoraState, name: str) -> None:
    """Raise ``AdapterError`` naming every tensor of adapter ``name`` that holds NaN or infinity."""
    bad = {key: number_format(tensor.dtype) for key, tensor in state.tensors().items() if not all_finite(tensor)}
    if bad:
        raise AdapterError(
            f"adapter {name!r} holds NaN or infinite values in {some(list(bad))}: retrain or re-export it (number "
            f"format: {', '.join(sorted(set(bad.values())))})"
        )


def is_zero(state: LoraState) -> bool:
    """Whether an adapter updates nothing, as LoRA does before its first step; read up to the first module that does."""
    with state.reading():
        return not any(bool(factors.a.any()) and bool(factors.b.any()) for factors in state.modules.values())


def finite_when_read(state: LoraState, name: str) -> LoraState:
    """The same adapter, whose tensors are looked through for NaN and infinity once: when they are first read.

    Reading raises ``AdapterError`` that names the adapter, as ``name``, and the tensors.
    """
    if isinstance(state.modules, LazyModules) and state.modules.finite:
        return state
    finished: set[str] = set()

    def read(module: str) -> LoraFactors:
        factors = state.modules[module]
        if module not in finished:
            check_finite(LoraState({module: factors}), name)
            finished.add(module)
        return factors

    return state.passed_through(read, finite=True)


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    if not names:
        return "nothing"
    tail = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + tail
