"""``check_merge`` on merges that each break one thing, and on one from another package."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import esmerge.testing
from esmerge.adapters.lora import LoraFactors, LoraState, delta_name
from esmerge.calibration.types import Statistics
from esmerge.coefficients.types import Coefficients
from esmerge.core.errors import ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.registry import Entry
from esmerge.merging.api import MergeConfig, Merged, MergeInput
from esmerge.merging.ops.es_family import measure
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine, tensor_shapes
from esmerge.testing import check_merge
from esmerge.testing.inputs import Shape

SMALL = (Shape(seed=3),)
Function = Callable[[MergeInput, Any], Merged]


def entry(function: Function, settings: type = ConvexSettings, **facts: Any) -> Entry[MergeInfo]:
    fields = {"title": "Toy", "source": "nowhere", "kind": MethodKind.MERGE, "spaces": ("delta",), **facts}
    return Entry("toy", function, settings, MergeInfo(**fields))


def weighted(inputs: MergeInput, settings: Any, weights: Mapping[str, float]) -> Merged:
    coefficients = {
        name: dict.fromkeys(tensor_shapes(state, inputs.space), torch.tensor(weights[name], dtype=torch.float64))
        for name, state in inputs.experts.items()
    }
    return Merged(combine(inputs.experts, inputs.space, coefficients, settings))


def average(inputs: MergeInput, settings: Any) -> Merged:
    return weighted(inputs, settings, dict.fromkeys(inputs.experts, 1 / len(inputs.experts)))


def total(inputs: MergeInput, settings: Any) -> Merged:
    return weighted(inputs, settings, dict.fromkeys(inputs.experts, 1.0))


def first_only(inputs: MergeInput, settings: Any) -> Merged:
    first = next(iter(inputs.experts))
    return weighted(inputs, settings, {name: float(name == first) for name in inputs.experts})


def in_double(inputs: MergeInput, settings: Any) -> Merged:
    state = average(inputs, settings).state
    modules = {name: replace(f, a=f.a.double(), b=f.b.double()) for name, f in state.modules.items()}
    return Merged(replace(state, modules=modules))


def one_module_short(inputs: MergeInput, settings: Any) -> Merged:
    state = average(inputs, settings).state
    return Merged(replace(state, modules=dict(list(state.modules.items())[1:])))


def other_weights_by_space(inputs: MergeInput, settings: Any) -> Merged:
    if inputs.space == "factors":
        return average(inputs, settings)
    expert = min(inputs.experts)
    return weighted(inputs, settings, {name: float(name == expert) for name in inputs.experts})


def deaf_to_scale(inputs: MergeInput, settings: Any) -> Merged:
    return average(inputs, replace(settings, scale=1.0))


def deaf_to_rank(inputs: MergeInput, settings: Any) -> Merged:
    return average(inputs, replace(settings, rank="exact"))


def deaf_to_lora_scale(inputs: MergeInput, settings: Any) -> Merged:
    bare = {
        name: replace(state, modules={key: replace(f, scale=1.0) for key, f in state.modules.items()})
        for name, state in inputs.experts.items()
    }
    return average(replace(inputs, experts=bare), settings)


CALLS = count()


def counting(inputs: MergeInput, settings: Any) -> Merged:
    """Every other call differs, by less than rounding."""
    return average(inputs, replace(settings, scale=settings.scale * (1 + 1e-6 * (next(CALLS) % 2))))


def writing(inputs: MergeInput, settings: Any) -> Merged:
    merged = Merged(average(inputs, settings).state.materialize())
    for state in inputs.experts.values():
        for factors in state.modules.values():
            factors.a.mul_(1 + 1e-6)
    return merged


def double_weights(inputs: MergeInput, settings: Any) -> Merged:
    coefficients = measure(inputs, settings)
    doubled = Coefficients({name: 2 * layer for name, layer in coefficients.layer.items()}, {})
    return Merged(average(inputs, settings).state, doubled)


def says_es_does_average(inputs: MergeInput, settings: Any) -> Merged:
    return Merged(average(inputs, settings).state, measure(inputs, settings))


def keeps_its_weights_to_itself(inputs: MergeInput, settings: Any) -> Merged:
    return average(inputs, settings)


def failing(inputs: MergeInput, settings: Any) -> Merged:
    raise KeyError("lost")


@dataclass(frozen=True)
class Folding(ConvexSettings):
    def folds_scales(self) -> bool:
        return True


@dataclass(frozen=True)
class Bare(MergeConfig):
    """A merge without a scale."""


LAYER = {"granularities": ("layer",)}
BOTH = {"spaces": ("factors", "delta")}
BROKEN = {
    "every tensor is merged.*float64, the experts are torch.float32": entry(in_double),
    "every tensor is merged.*left modules unmerged": entry(one_module_short),
    "every tensor is merged.*KeyError: 'lost'": entry(failing),
    "order does not matter": entry(first_only),
    "coefficients are convex.*miss a sum of 1": entry(double_weights, **LAYER),
    "coefficients are convex.*does not return its coefficients": entry(keeps_its_weights_to_itself, **LAYER),
    "identical experts return themselves": entry(total, convex=True),
    "one hot weights return that expert": entry(says_es_does_average, **LAYER),
    "spaces agree where experts share a": entry(other_weights_by_space, convex=True, **BOTH),
    "scale multiplies the task vector": entry(deaf_to_scale),
    "scale multiplies the task vector.*Bare have no scale": entry(
        lambda inputs, settings: average(inputs, ConvexSettings()), Bare
    ),
    "rank leaves the best adapter": entry(deaf_to_rank),
    "same seed same merge.*differs between two calls": entry(counting),
    "same seed same merge.*was changed in place": entry(writing),
    "other ranks and scales are refused.*LoRA scale was not refused": entry(average, Folding, **BOTH),
    "any ranks and scales merge": entry(deaf_to_lora_scale),
    "needs a title and a source": entry(average, source=""),
    "of kind <MethodKind.FLOOR": entry(average, kind=MethodKind.FLOOR),
    "merge spaces .'spherical'": entry(average, spaces=("spherical",)),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_invariant_is_named(message: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)merge 'toy'.*{message}"):
        check_merge(BROKEN[message], shapes=SMALL)


def test_the_message_says_where(message: str = "order does not matter") -> None:
    with pytest.raises(AssertionError, match=r"\(merge_space=delta, Shape\(count=3, layers=2, rank=2.*seed=3\)\)"):
        check_merge(BROKEN[message], shapes=SMALL)


def test_a_sound_merge_passes() -> None:
    check_merge(entry(average, convex=True, **BOTH))


def test_a_name_that_nobody_registered_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown merge 'no_such'"):
        check_merge("no_such")


def norms(experts: Mapping[str, LoraState], space: str, seed: int) -> Statistics:
    return {name: {key: f.delta().norm() for key, f in state.modules.items()} for name, state in experts.items()}


def by_norm(inputs: MergeInput, settings: Any) -> Merged:
    coefficients = {
        name: {delta_name(key): _share(inputs, name, key) for key in _first(inputs)} for name in inputs.experts
    }
    return Merged(combine(inputs.experts, "delta", coefficients, settings))


def _first(inputs: MergeInput) -> Mapping[str, LoraFactors]:
    return next(iter(inputs.experts.values())).modules


def _share(inputs: MergeInput, name: str, module: str) -> Tensor:
    lengths = inputs.statistics["norms"]
    return lengths[name][module].double() / sum(lengths[other][module].double() for other in inputs.experts)


def test_statistics_of_other_packages_are_given_by_name() -> None:
    toy = entry(by_norm, convex=True, needs=("norms",))
    with pytest.raises(AssertionError, match="it needs norms: give check_merge statistics="):
        check_merge(toy, shapes=SMALL)
    check_merge(toy, shapes=SMALL, statistics={"norms": norms})


def test_it_needs_no_test_library() -> None:
    imported = set()
    for path in Path(esmerge.testing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            imported |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
    assert {"torch", "esmerge.merging.run"} < imported
    assert not {name.split(".")[0] for name in imported} & {"pytest", "hypothesis", "unittest"}
