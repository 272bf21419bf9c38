"""TIES against hand-worked numbers, PEFT's tensor function and mergekit."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils.merge_utils import ties as peft_ties
from tests.merging.builders import dense, distance, make_experts
from tests.merging.drops import MODULE as ONLY
from tests.merging.drops import mergekit, random_input

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.ties import TiesSettings, ties, trim_thresholds
from esmerge.merging.ops.entrywise import elected_mean

ROOT = "base_model.model.model.layers"


def vector(**rows: list[float]) -> LoraState:
    """An adapter whose updates are the given single rows, on modules named after their keywords."""
    return LoraState(
        {
            f"{ROOT}.{layer}.{name}": LoraFactors(torch.tensor([row], dtype=torch.float32), torch.ones(1, 1), 1.0)
            for layer, (name, row) in enumerate(rows.items())
        }
    )


def test_by_hand() -> None:
    # keep 3 of 5: x -> (5, 0, 2, 0, 3), y -> (-4, 2, 0, 6, 0); sums (1, 2, 2, 6, 3), all positive;
    # only x agrees on the first entry, and every other entry has one contributor
    experts = {"x": vector(q=[5, -1, 2, 0.1, 3]), "y": vector(q=[-4, 2, 1, 6, 0.2])}
    merged = ties(MergeInput(experts, "delta"), TiesSettings(keep=0.6)).state
    expected = torch.tensor([[5.0, 2, 2, 6, 3]])
    torch.testing.assert_close(merged.modules[f"{ROOT}.0.q"], expected)
    doubled = ties(MergeInput(experts, "delta"), TiesSettings(keep=0.6, scale=2.0)).state
    torch.testing.assert_close(doubled.modules[f"{ROOT}.0.q"], 2 * expected)


def test_the_trim_counts_over_the_whole_adapter() -> None:
    # of 6 entries the largest 3 survive: all of k, none of q, though each has 3
    state = vector(q=[1, 2, 3], k=[10, -20, 30])
    assert trim_thresholds(MergeInput({"x": state}, "delta"), 0.5).tolist() == [10]
    merged = ties(MergeInput({"x": state, "y": state}, "delta"), TiesSettings(keep=0.5)).state
    assert torch.equal(merged.modules[f"{ROOT}.0.q"], torch.zeros(1, 3))
    torch.testing.assert_close(merged.modules[f"{ROOT}.1.k"], torch.tensor([[10.0, -20, 30]]))


def test_elected_mean_by_hand() -> None:
    # entry 0: sum 3 > 0, mean of 4 and 2; entry 1: sum -4 < 0, only -5; entry 2: sum exactly 0 -> 0; entry 3: no one
    stacked = torch.tensor([[4.0, -5, 1, 0], [2, 1, -1, 0], [-3, 0, 0, 0]])
    assert elected_mean(stacked).tolist() == [3, -5, 0, 0]


def test_identical_experts_keep_their_largest_entries() -> None:
    expert = make_experts(2)["expert1"]
    inputs = MergeInput({"x": expert, "y": expert, "z": expert}, "delta")
    assert distance(ties(inputs, TiesSettings(keep=1.0)).state, dense(expert)) < 1e-5
    threshold = trim_thresholds(MergeInput({"x": expert}, "delta"), 0.2).item()
    trimmed = {m: torch.where(delta.abs() >= threshold * (1 - 1e-6), delta, 0.0) for m, delta in dense(expert).items()}
    share = sum(int((delta != 0).sum()) for delta in trimmed.values()) / sum(
        delta.numel() for delta in trimmed.values()
    )
    assert share == pytest.approx(0.2, abs=0.01)
    assert distance(ties(inputs, TiesSettings(keep=0.2)).state, trimmed) < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.integers(0, 999))
def test_agrees_with_peft_on_one_tensor(count: int, keep: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(1, 16, generator=generator) for _ in range(count)]
    experts = {
        f"e{i}": LoraState({f"{ROOT}.0.q": LoraFactors(row, torch.ones(1, 1), 1.0)}) for i, row in enumerate(rows)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns that a density of 1 prunes nothing
        expected = peft_ties([row.clone() for row in rows], torch.ones(count), keep)
    merged = ties(MergeInput(experts, "delta"), TiesSettings(keep=keep)).state
    torch.testing.assert_close(merged.modules[f"{ROOT}.0.q"], expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.sampled_from([0.25, 0.5, 1.0]), st.integers(0, 999))
def test_agrees_with_mergekit_on_one_tensor(count: int, keep: float, seed: int) -> None:
    # mergekit trims each tensor by itself, so the two agree where there is one; it gives entries whose sum is exactly
    # zero a positive sign, which normal entries never need
    inputs, deltas = random_input(count, seed)
    merged = ties(inputs, TiesSettings(keep=keep)).state
    torch.testing.assert_close(merged.modules[ONLY], mergekit("ties", deltas, normalize=True, density=keep))


@pytest.mark.parametrize("keep", [0.0, 1.5, -0.2, float("nan")])
def test_keep_is_a_share(keep: float) -> None:
    with pytest.raises(ConfigError, match=f"method.keep={keep} must be greater than 0 and at most 1"):
        TiesSettings(keep=keep)
