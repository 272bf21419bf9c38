"""What holds for every registered merge, in each of its spaces and granularities; new merges are found.

Once as ``check_merge`` checks it, and once on experts of many shapes, drawn by hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import case_of, cases

from esmerge.merging.api import MERGES
from esmerge.testing import check_merge, invariants, refusals
from esmerge.testing.case import Case, dense
from esmerge.testing.inputs import Shape, experts_of

CASES = cases()
every_case = pytest.mark.parametrize(("name", "space", "granularity"), CASES)
quick = settings(max_examples=10, deadline=None)
shapes = st.builds(
    Shape,
    count=st.integers(2, 5),
    layers=st.integers(1, 3),
    rank=st.integers(1, 4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 10_000),
)


def cases_where(applies: Callable[[Case], bool]) -> pytest.MarkDecorator:
    """The cases that an invariant concerns."""
    return pytest.mark.parametrize(("name", "space", "granularity"), [c for c in CASES if applies(case_of(*c))])


@pytest.mark.parametrize("name", MERGES.names())
def test_every_registered_merge_passes_the_check(name: str) -> None:
    check_merge(name)


@every_case
@quick
@given(shape=shapes)
def test_every_tensor_is_merged_in_the_experts_dtype(
    name: str, space: str, granularity: str | None, shape: Shape
) -> None:
    invariants.every_tensor_is_merged(case_of(name, space, granularity), shape)


@every_case
@quick
@given(shape=shapes, data=st.data())
def test_expert_order_does_not_matter(
    name: str, space: str, granularity: str | None, shape: Shape, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(shape.count)))
    invariants.order_does_not_matter(case_of(name, space, granularity), shape, order)


@every_case
@quick
@given(shape=shapes)
def test_coefficients_are_convex_at_every_entry(name: str, space: str, granularity: str | None, shape: Shape) -> None:
    invariants.coefficients_are_convex(case_of(name, space, granularity), shape)


@cases_where(invariants.is_convex)
@quick
@given(shape=shapes)
def test_identical_experts_return_themselves(name: str, space: str, granularity: str | None, shape: Shape) -> None:
    invariants.identical_experts_return_themselves(case_of(name, space, granularity), shape)


@cases_where(invariants.reads_signals)
@quick
@given(shape=shapes)
def test_one_hot_weights_return_that_expert(name: str, space: str, granularity: str | None, shape: Shape) -> None:
    invariants.one_hot_weights_return_that_expert(case_of(name, space, granularity), shape)


@cases_where(lambda case: invariants.is_layerwise(case) and invariants.in_factor_space(case))
@quick
@given(shape=shapes, scale=st.sampled_from([0.5, 1.0, 3.0]))
def test_spaces_agree_where_experts_share_a(
    name: str, space: str, granularity: str | None, shape: Shape, scale: float
) -> None:
    invariants.spaces_agree_where_experts_share_a(case_of(name, space, granularity), shape, scale)


@every_case
@quick
@given(shape=shapes, scale=st.sampled_from([0.25, 2.0, 3.0]))
def test_scale_multiplies_the_task_vector(
    name: str, space: str, granularity: str | None, shape: Shape, scale: float
) -> None:
    invariants.scale_multiplies_the_task_vector(case_of(name, space, granularity), shape, scale)


@cases_where(invariants.in_delta_space)
@quick
@given(shape=shapes, rank=st.integers(1, 3))
def test_a_rank_leaves_the_best_adapter_of_that_rank(
    name: str, space: str, granularity: str | None, shape: Shape, rank: int
) -> None:
    invariants.rank_leaves_the_best_adapter(case_of(name, space, granularity), shape, rank)


@every_case
def test_same_seed_same_merge_and_inputs_stay_as_they_were(name: str, space: str, granularity: str | None) -> None:
    invariants.same_seed_same_merge(case_of(name, space, granularity), Shape(3, seed=1))


@every_case
def test_experts_that_do_not_fit_are_refused_by_name(name: str, space: str, granularity: str | None) -> None:
    refusals.misfits_are_refused_by_name(case_of(name, space, granularity), Shape(2))


@cases_where(invariants.in_factor_space)
def test_factor_space_refuses_other_ranks_and_scales(name: str, space: str, granularity: str | None) -> None:
    refusals.other_ranks_and_scales_are_refused(case_of(name, space, granularity), Shape(2))


@cases_where(invariants.in_delta_space)
def test_delta_space_takes_any_ranks_and_scales(name: str, space: str, granularity: str | None) -> None:
    invariants.any_ranks_and_scales_merge(case_of(name, space, granularity), Shape(2))


@every_case
@pytest.mark.parametrize("idle", ["b", "both"])
def test_an_expert_that_updates_nothing_does_not_blow_a_merge_up(
    name: str, space: str, granularity: str | None, idle: str
) -> None:
    """As ``allow_partial`` leaves one; the experts' norms add up to a bound that none should leave far behind."""
    case, experts = case_of(name, space, granularity), experts_of(Shape(count=3))
    last = list(experts)[-1]
    silent = {
        module: replace(factors, b=torch.zeros_like(factors.b), a=factors.a * (idle == "b"))
        for module, factors in experts[last].modules.items()
    }
    experts = {**experts, last: replace(experts[last], modules=silent)}
    merged = dense(case.merged(experts))
    for module, update in merged.items():
        bound = sum(float(dense(state)[module].norm()) for state in experts.values())
        assert update.isfinite().all() and float(update.norm()) <= 3 * bound
