"""SLERP against hand-worked angles and mergekit's `slerp` and `karcher`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit.merge_methods.karcher import karcher_merge_tensors
from mergekit.merge_methods.slerp import slerp as mergekit_slerp
from tests.merging.builders import dense, distance, make_experts

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.slerp import SlerpSettings, karcher_mean, slerp, spherical_mean, tangents

MODULE = "base_model.model.model.layers.0.q_proj"


def vector(*row: float) -> LoraState:
    """An adapter of one module whose update is a single row."""
    return LoraState({MODULE: LoraFactors(torch.tensor([row]), torch.ones(1, 1), 1.0)})


def mean_of(*vectors: list[float]) -> torch.Tensor:
    return spherical_mean(torch.tensor(vectors, dtype=torch.float64), 1e-9, 100)


def test_by_hand() -> None:
    # directions at 0 and 90 degrees, so the mean points to 45; lengths 3 and 1, so it is 2 long: 2 · (√½, √½)
    experts = {"x": vector(3.0, 0.0), "y": vector(0.0, 1.0)}
    merged = slerp(MergeInput(experts, "delta"), SlerpSettings(scale=5.0)).state
    assert dense(merged)[MODULE].tolist() == [pytest.approx([5 * 2**0.5, 5 * 2**0.5])]


def test_three_directions_on_one_circle_meet_at_their_mean_angle() -> None:
    # angles 0, 0 and 90 degrees: their mean is 30, while the plain sum (2, 1) points to 26.6
    mean = mean_of([1, 0], [1, 0], [0, 1])
    assert mean.tolist() == pytest.approx([0.75**0.5, 0.5])


def test_tangents_by_hand() -> None:
    # seen from (1, 0): (0, 1) lies a quarter turn away; (1, 0) is there already; (-1, 0) lies in every direction
    vectors = tangents(torch.tensor([1.0, 0]), torch.tensor([[0.0, 1], [1, 0], [-1, 0]]))
    torch.testing.assert_close(vectors, torch.tensor([[0, torch.pi / 2], [0, 0], [0, 0]]))


def test_updates_without_a_direction() -> None:
    assert mean_of([0, 0], [0, 0]).tolist() == [0, 0]
    # (0, 0) has no direction, but its length counts: half of (4, 0)
    assert mean_of([0, 0], [4, 0]).tolist() == pytest.approx([2, 0])
    # opposite directions have no mean, which leaves the plain average, in any order
    assert mean_of([3, 0], [-1, 0]).tolist() == mean_of([-1, 0], [3, 0]).tolist() == [1, 0]


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 999))
def test_agrees_with_mergekit_on_dense_tensors(count: int, rank: int, seed: int) -> None:
    experts = make_experts(count, rank=rank, seed=seed)
    merged = slerp(MergeInput(experts, "delta"), SlerpSettings()).state
    for module, update in dense(merged).items():
        deltas = [dense(state)[module] for state in experts.values()]
        expected = karcher_merge_tensors(deltas, [1 / count] * count)
        assert float((update - expected).norm() / expected.norm()) < 1e-5


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999))
def test_two_updates_of_one_length_give_mergekits_slerp(seed: int) -> None:
    # mergekit's slerp does not part length and direction, so both updates are made equally long
    experts = make_experts(2, seed=seed)
    for name, state in experts.items():
        unit = {m: replace(f, scale=f.scale / float(f.delta().norm())) for m, f in state.modules.items()}
        experts[name] = replace(state, modules=unit)
    merged = dense(slerp(MergeInput(experts, "delta"), SlerpSettings()).state)
    for module, update in merged.items():
        first, second = (dense(state)[module].flatten()[None] for state in experts.values())
        expected = mergekit_slerp(torch.tensor([0.5]), first, second).reshape(update.shape)
        torch.testing.assert_close(update, expected, rtol=0, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(0, 999))
def test_the_mean_has_the_least_sum_of_squared_angles(count: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    units = torch.randn(count, 40, generator=draw, dtype=torch.float64)
    units = units / units.norm(dim=1, keepdim=True)
    start = units.mean(dim=0) / units.mean(dim=0).norm()
    mean = karcher_mean(units, start, 1e-12, 200)

    def cost(point: torch.Tensor) -> float:
        return float(torch.acos(units @ (point / point.norm())).square().sum())

    for _ in range(20):
        assert cost(mean) <= cost(mean + 0.05 * torch.randn(40, generator=draw, dtype=torch.float64)) + 1e-12


def test_identical_experts_return_themselves() -> None:
    expert = make_experts(2)["expert1"]
    merged = slerp(MergeInput({"x": expert, "y": expert, "z": expert}, "delta"), SlerpSettings()).state
    assert distance(merged, dense(expert)) < 1e-5


def test_the_rank_is_at_most_the_sum_of_ranks() -> None:
    merged = slerp(MergeInput(make_experts(2, rank=1), "delta"), SlerpSettings()).state
    assert isinstance(merged, LoraState)
    assert all(factors.rank == 2 for factors in merged.modules.values())


@pytest.mark.parametrize(("field", "value"), [("tolerance", 0.0), ("max_iterations", 0), ("scale", -1.0)])
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"method.{field}={value}"):
        SlerpSettings(**{field: value})
