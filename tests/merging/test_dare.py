"""DARE against hand-worked numbers, its expectation, and mergekit and PEFT on the same draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mergekit.sparsify import RescaleNorm, SparsificationMethod, sparsify
from peft.utils.merge_utils import dare_linear, dare_ties
from tests.merging.builders import dense, distance, make_experts
from tests.merging.drops import MODULE, draw_with, experts_of, mergekit, random_input

from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.dare import DareSettings, dare, uniform_numbers
from esmerge.merging.ops.selection import drop_and_rescale

cases = given(st.integers(2, 5), st.sampled_from([0.25, 0.5, 0.9]), st.integers(0, 999))
quick = settings(max_examples=20, deadline=None)


def test_drop_and_rescale_by_hand() -> None:
    # p = 0.75: only numbers from 0.75 up keep their entry, which becomes four times as large
    deltas, numbers = torch.tensor([[1.0, -2, 3, -4]]), torch.tensor([[0.74, 0.75, 0.0, 0.99]])
    assert drop_and_rescale(deltas, torch.full_like(deltas, 0.75), numbers).tolist() == [[0, -8, 0, -16]]


def test_both_ways_to_go_on_by_hand() -> None:
    inputs = MergeInput(experts_of(torch.tensor([[4.0, -2, 6, 1]]), torch.tensor([[-1.0, -4, 2, 3]])), "delta", seed=2)
    mask = (uniform_numbers(inputs, MODULE) >= 0.5).int().tolist()
    assert mask == [[[1, 1, 0, 0]], [[1, 0, 0, 1]]]
    # with p = 0.5 what stays is doubled: (8, -4, 0, 0) and (-2, 0, 0, 6)
    merged = dare(inputs, DareSettings(drop=0.5)).state.modules[MODULE]
    assert merged.tolist() == [[3, -2, 0, 3]]
    # the signs of the sums are (+, -, 0, +): the first entry is the first expert's alone
    merged = dare(inputs, DareSettings(drop=0.5, then="ties", scale=2.0)).state.modules[MODULE]
    assert merged.tolist() == [[16, -8, 0, 12]]


@quick
@cases
def test_agrees_with_peft_on_the_same_draws(count: int, drop: float, seed: int) -> None:
    inputs, deltas = random_input(count, seed)
    numbers, ones = uniform_numbers(inputs, MODULE), torch.ones(count)
    for then, reference, weights in (("average", dare_linear, ones / count), ("ties", dare_ties, ones)):
        with pytest.MonkeyPatch.context() as patch:
            draw_with(patch, numbers)
            expected = reference(list(deltas), weights, 1 - drop)
        merged = dare(inputs, DareSettings(drop=drop, then=then)).state.modules[MODULE]
        torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


@quick
@cases
def test_agrees_with_mergekit_on_the_same_draws(count: int, drop: float, seed: int) -> None:
    inputs, deltas = random_input(count, seed)
    for then, name in (("average", "dare_linear"), ("ties", "dare_ties")):
        with pytest.MonkeyPatch.context() as patch:
            draw_with(patch, uniform_numbers(inputs, MODULE))
            unscaled = mergekit(name, deltas, normalize=True, density=1 - drop)
        merged = dare(inputs, DareSettings(drop=drop, then=then)).state.modules[MODULE]
        torch.testing.assert_close(merged, unscaled / (1 - drop), rtol=1e-4, atol=1e-5)


def test_mergekit_rescales_to_the_l1_norm_instead() -> None:
    inputs, (delta, _) = random_input(2, seed=1)
    numbers = uniform_numbers(inputs, MODULE)[0]
    with pytest.MonkeyPatch.context() as patch:
        draw_with(patch, numbers[None])
        theirs = sparsify(delta, 0.5, SparsificationMethod.random, rescale_norm=RescaleNorm.l1)
    ours = drop_and_rescale(delta, torch.full_like(delta, 0.5), numbers)
    torch.testing.assert_close(theirs, ours * delta.abs().sum() / ours.abs().sum())
    assert float((theirs - ours).abs().max()) > 0.01


def test_the_mean_over_seeds_is_the_undropped_mean() -> None:
    count, drop = 2000, 0.75
    inputs, deltas = random_input(2, seed=0, shape=(3, 4))
    merged = sum(
        dare(MergeInput(inputs.experts, "delta", seed), DareSettings(drop=drop)).state.modules[MODULE]
        for seed in range(count)
    )
    # the variance of one merge's entry is p / (1 - p) · Σ Δ_i² / N²
    deviation = (drop / (1 - drop) / count) ** 0.5 * deltas.norm(dim=0) / len(deltas)
    assert ((merged / count - deltas.mean(dim=0)).abs() < 4 * deviation).all()


def test_the_share_that_is_dropped() -> None:
    inputs, _ = random_input(2, seed=0, shape=(100, 100))
    numbers = uniform_numbers(inputs, MODULE)
    for drop in (0.1, 0.5, 0.9):
        assert float((numbers < drop).float().mean()) == pytest.approx(drop, abs=0.02)
    assert float(torch.corrcoef(numbers.flatten(1))[0, 1]) == pytest.approx(0, abs=0.05)  # experts drop independently


def test_what_is_dropped_depends_on_seed_expert_and_module_alone() -> None:
    experts = make_experts(3)
    module = next(iter(experts["expert1"].modules))
    numbers = dict(zip(experts, uniform_numbers(MergeInput(experts, "delta"), module), strict=True))
    fewer = {name: experts[name] for name in ("expert1", "expert3")}
    for name, draws in zip(fewer, uniform_numbers(MergeInput(fewer, "delta"), module), strict=True):
        assert torch.equal(draws, numbers[name])
    assert not torch.equal(uniform_numbers(MergeInput(fewer, "delta", seed=1), module)[0], numbers["expert1"])


def test_no_drop_is_the_plain_mean() -> None:
    experts = make_experts(3)
    merged = dare(MergeInput(experts, "delta"), DareSettings(drop=0.0)).state
    updates = [dense(state) for state in experts.values()]
    mean = {module: torch.stack([update[module] for update in updates]).mean(dim=0) for module in updates[0]}
    assert distance(merged, mean) < 1e-5


@pytest.mark.parametrize("drop", [1.0, 1.5, -0.1, float("nan")])
def test_drop_is_a_probability_below_one(drop: float) -> None:
    with pytest.raises(ConfigError, match=f"method.drop={drop} must be at least 0 and less than 1"):
        DareSettings(drop=drop)


def test_an_unknown_way_to_go_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="method.then='fisher' must be one of average, ties"):
        DareSettings(then="fisher")
