"""What holds for every merge by singular vectors, whatever its formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from tests.merging.matrices import assert_same, dense_of, expert_specs, random_experts
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.merging.api import Merged, MergeInput
from esmerge.merging.methods.aswudi import AswudiSettings, aswudi
from esmerge.merging.methods.compress_then_merge import CompressThenMergeSettings, compress_then_merge
from esmerge.merging.methods.core_space import MERGED_CORES, CoreSpaceSettings, core_space
from esmerge.merging.methods.iso_c import IsoCSettings, iso_c
from esmerge.merging.methods.knots import KnotsSettings, knots
from esmerge.merging.methods.pico import PicoSettings, pico
from esmerge.merging.methods.svc import SvcSettings, svc
from esmerge.merging.methods.swudi import SwudiSettings, swudi
from esmerge.merging.methods.tsv import TsvSettings, tsv
from esmerge.merging.ops.spectral import significant

Merge = Callable[[MergeInput], Merged]


def bound(function: Callable[[MergeInput, Any], Merged], config: Any) -> Merge:
    return lambda inputs: function(inputs, config)


FROM_UPDATES = {
    "knots ties": bound(knots, KnotsSettings(keep=0.4)),
    "knots dare": bound(knots, KnotsSettings(then="dare", drop=0.5)),
    "tsv": bound(tsv, TsvSettings()),
    "tsv whole": bound(tsv, TsvSettings(keep=1.0)),
    "iso_c": bound(iso_c, IsoCSettings()),
    "swudi": bound(swudi, SwudiSettings()),
    "svc": bound(svc, SvcSettings()),
    "aswudi": bound(aswudi, AswudiSettings()),
    "compress two": bound(compress_then_merge, CompressThenMergeSettings(core_rank=2)),
    **{f"core {then}": bound(core_space, CoreSpaceSettings(then=then)) for then in MERGED_CORES if then != "ties"},
}
MERGES = {
    **FROM_UPDATES,
    "core ties": bound(core_space, CoreSpaceSettings(then="ties")),
    "pico": bound(pico, PicoSettings()),
}
EXACT_ON_COPIES = {  # how many times the expert comes back from three copies of it
    "knots ties": (bound(knots, KnotsSettings(scale=1.0)), 1),
    "tsv whole": (MERGES["tsv whole"], 1),
    "compress": (bound(compress_then_merge, CompressThenMergeSettings(scale=1.0, keep=1.0)), 1),
    "core task_arithmetic": (MERGES["core task_arithmetic"], 3),
    "core ties": (bound(core_space, CoreSpaceSettings(then="ties", keep=1.0)), 1),
    "core tsv": (MERGES["core tsv"], 1),
}


def zeros(state: LoraState) -> LoraState:
    return LoraState({module: replace(f, b=torch.zeros_like(f.b)) for module, f in state.modules.items()})


def finite(state: LoraState) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.tensors().values())


@pytest.mark.parametrize("name", MERGES)
@settings(max_examples=10, deadline=None)
@given(spec=expert_specs)
def test_signs_of_singular_vectors_do_not_matter(name: str, spec: dict) -> None:
    inputs = MergeInput(random_experts(**spec), "delta")
    expected = dense_of(MERGES[name](inputs).state)
    plain, draw = torch.linalg.svd, torch.Generator().manual_seed(0)

    def flipped(matrix: Tensor, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]:
        u, values, vt = plain(matrix, full_matrices=full_matrices)
        signs = torch.randint(2, values.shape, generator=draw) * 2.0 - 1
        return u * signs.unsqueeze(-2), values, signs.unsqueeze(-1) * vt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "svd", flipped)
        assert_same(MERGES[name](inputs).state, expected)


@pytest.mark.parametrize("name", MERGES)
@settings(max_examples=10, deadline=None)
@given(spec=expert_specs)
def test_expert_order_does_not_matter(name: str, spec: dict) -> None:
    experts = random_experts(**spec)
    expected = dense_of(MERGES[name](MergeInput(experts, "delta")).state)
    reordered = dict(reversed(experts.items()))
    assert_same(MERGES[name](MergeInput(reordered, "delta")).state, expected)


@pytest.mark.parametrize("name", FROM_UPDATES)
@settings(max_examples=10, deadline=None)
@given(spec=expert_specs)
def test_only_the_updates_matter_not_how_they_are_factored(name: str, spec: dict) -> None:
    experts = random_experts(**spec)

    def refactored(f: LoraFactors) -> LoraFactors:
        # twice the rank: the update as (B + C) A - C A with any C, and with the scale in A
        other = torch.ones_like(f.b)
        return LoraFactors(f.scale * torch.cat([f.a, f.a]), torch.cat([f.b + other, -other], dim=1), 1.0)

    changed = {
        expert: replace(state, modules={module: refactored(f) for module, f in state.modules.items()})
        for expert, state in experts.items()
    }
    expected = dense_of(FROM_UPDATES[name](MergeInput(experts, "delta")).state)
    assert_same(FROM_UPDATES[name](MergeInput(changed, "delta")).state, expected)


@pytest.mark.parametrize("name", MERGES)
@settings(max_examples=10, deadline=None)
@given(spec=expert_specs)
def test_the_result_has_no_more_than_the_joint_rank(name: str, spec: dict) -> None:
    merged = MERGES[name](MergeInput(random_experts(**spec), "delta")).state
    assert finite(merged)
    assert all(factors.rank <= sum(spec["ranks"]) for factors in merged.modules.values())


@pytest.mark.parametrize("name", MERGES)
def test_zero_updates_leave_zero(name: str) -> None:
    experts = {expert: zeros(state) for expert, state in random_experts([(5, 7), (4, 3)], [2, 3], 0).items()}
    merged = MERGES[name](MergeInput(experts, "delta")).state
    assert finite(merged)
    assert all((delta == 0).all() for delta in dense_of(merged).values())
    assert all(factors.rank > 0 for factors in merged.modules.values())


@pytest.mark.parametrize("name", EXACT_ON_COPIES)
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_copies_of_an_expert(name: str, rank: int) -> None:
    expert = random_experts([(5, 7), (8, 3)], [rank], 1)["e0"]
    merge, times = EXACT_ON_COPIES[name]
    merged = merge(MergeInput({"x": expert, "y": expert, "z": expert}, "delta")).state
    assert_same(merged, {module: times * delta for module, delta in dense_of(expert).items()})


@pytest.mark.parametrize("name", ["knots ties", "tsv whole", "core tsv", "core ties"])
def test_an_expert_that_learned_nothing_changes_nothing(name: str) -> None:
    expert = random_experts([(5, 7)], [2], 1)["e0"]
    merged = EXACT_ON_COPIES[name][0](MergeInput({"x": zeros(expert), "y": expert}, "delta")).state
    assert_same(merged, dense_of(expert))


def test_significant_singular_values() -> None:
    values = torch.tensor([[2.0, 1.0, 1e-5, 1e-9], [0.0, 0.0, 0.0, 0.0], [1e-20, 1e-21, 0.0, 0.0]])
    assert significant(values).tolist() == [[True, True, True, False], [False] * 4, [True, True, False, False]]
