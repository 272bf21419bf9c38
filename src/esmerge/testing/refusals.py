"""What every merge must refuse, and how the message names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from esmerge.adapters.lora import SPACES, LoraFactors, LoraState
from esmerge.core.errors import AdapterError, BenchError, ConfigError
from esmerge.testing.case import Case, require
from esmerge.testing.inputs import Shape, experts_of

Experts = Mapping[str, LoraState]


def misfits_are_refused_by_name(case: Case, shape: Shape) -> None:
    """NaN, a missing module, another width, or a single expert is an ``AdapterError`` that names it."""
    experts = experts_of(replace(shape, count=2))
    module, good = _some_module(experts)
    hole = good.a.clone()
    hole[0, 0] = float("nan")
    fewer = {name: factors for name, factors in experts["expert1"].modules.items() if name != module}
    incomplete = {**experts, "expert1": replace(experts["expert1"], modules=fewer)}
    changed = {
        "a NaN": (
            _with(experts, module, replace(good, a=hole)),
            (f"'expert1' holds NaN or infinite values in {module}.lora_A",),
        ),
        "a missing module": (incomplete, ("'expert1'", module)),
        "another width": (_with(experts, module, replace(good, b=good.b[:-1])), (module,)),
        "a single expert": ({"expert1": experts["expert1"]}, ("at least two experts",)),
    }
    for what, (misfit, named) in changed.items():
        _require_refusal(_merging(case, experts, misfit), AdapterError, what, named)


def other_ranks_and_scales_are_refused(case: Case, shape: Shape) -> None:
    """In factor space, experts of different rank or LoRA scale are an ``AdapterError`` that names expert and value."""
    experts = experts_of(replace(shape, count=2, rank=2))
    module, good = _some_module(experts)
    scaled = _with(experts, module, replace(good, scale=3.0))
    narrow = _with(experts, module, replace(good, a=good.a[:1], b=good.b[:, :1]))
    fragments = ("'expert2' has LoRA scale 2, 'expert1' 3",)
    _require_refusal(_merging(case, experts, scaled), AdapterError, "another LoRA scale", fragments)
    fragments = ("'expert2' has rank 2, 'expert1' rank 1",)
    _require_refusal(_merging(case, experts, narrow), AdapterError, "another rank", fragments)


def other_spaces_are_refused(case: Case, shape: Shape) -> None:
    """A merge space that the merge does not have is a ``ConfigError`` that names those it has."""
    inputs = case.inputs(experts_of(shape))
    for space in sorted({*SPACES, "spherical"} - set(case.info.spaces)):
        named = (f"{case.entry.name!r} has no merge_space={space}: it has {', '.join(case.info.spaces)}",)
        merging = partial(case.merge, replace(inputs, space=space))
        _require_refusal(merging, ConfigError, f"merge_space={space}", named)


def _some_module(experts: Experts) -> tuple[str, LoraFactors]:
    """The last module of the first layer, as ``expert1`` has it."""
    modules = experts["expert1"].modules
    name = list(modules)[1]
    return name, modules[name]


def _with(experts: Experts, module: str, factors: LoraFactors) -> Experts:
    """The experts with other factors in one module of ``expert1``."""
    modules = {**experts["expert1"].modules, module: factors}
    return {**experts, "expert1": replace(experts["expert1"], modules=modules)}


def _merging(case: Case, experts: Experts, misfit: Experts) -> Callable[[], object]:
    """Merge misfits with what was made for the experts that they were made of."""
    return partial(case.merge, replace(case.inputs(experts), experts=misfit))


def _require_refusal(call: Callable[[], object], kind: type[BenchError], what: str, named: tuple[str, ...]) -> None:
    try:
        call()
    except kind as error:
        unsaid = [part for part in named if part not in str(error)]
        require(not unsaid, f"the refusal of {what} does not say {', '.join(unsaid)}: {error}")
        return
    raise AssertionError(f"{what} was not refused with {kind.__name__}")
