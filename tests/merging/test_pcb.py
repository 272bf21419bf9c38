"""PCB-Merging against hand-worked numbers and a NumPy version of its formulas on the flat task vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense, distance, make_experts, make_input, tolerance

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.pcb import PcbSettings, Range, magnitude_range, pcb, scores, weighted_mean

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
    # two experts, three entries, nothing clamped; the norms of the magnitudes are
    #   x: |2, 1, 0| -> 1, 1/2, 0    y: |1, -2, 3| -> 0, 1/2, 1
    # the sums are 3, -1, 3, so that the scores (with exp(2 (norm² - 1))) are
    #   x: tanh 6, exp(-1.5) tanh -1, 0    y: exp(-2) tanh 3, exp(-1.5) tanh 2, tanh 9
    # ratio 1/3 keeps one entry of each: x's first and y's third, each alone in its mean
    experts = {"x": vector(q=[2, 1, 0]), "y": vector(q=[1, -2, 3])}
    merged = pcb(MergeInput(experts, "delta"), PcbSettings(ratio=1 / 3, outliers=0)).state
    torch.testing.assert_close(merged.modules[f"{ROOT}.0.q"], torch.tensor([[2.0, 0, 3]]))
    # ratio 2/3 drops x's second and y's first; x's third stands for 0 with a weight, y's second alone is -2
    x, y = -math.exp(-1.5) * math.tanh(1), (math.exp(-2) * math.tanh(3), math.exp(-1.5) * math.tanh(2), math.tanh(9))
    zero, three = (0 - x) / (math.tanh(6) - x), (y[2] - y[0]) / (y[2] - y[0])
    expected = torch.tensor([[2.0, -2, 3 * three / (zero + three)]])
    merged = pcb(MergeInput(experts, "delta"), PcbSettings(ratio=2 / 3, outliers=0)).state
    torch.testing.assert_close(merged.modules[f"{ROOT}.0.q"], expected)
    doubled = pcb(MergeInput(experts, "delta"), PcbSettings(ratio=2 / 3, outliers=0, scale=2.0)).state
    torch.testing.assert_close(doubled.modules[f"{ROOT}.0.q"], 2 * expected)


def test_statistics_are_those_of_the_whole_adapter() -> None:
    # of 6 entries the 3 of k have the largest scores, and none of q is kept, though each module has 3
    state = vector(q=[1, 2, 3], k=[10, -20, 30])
    merged = pcb(MergeInput({"x": state, "y": state}, "delta"), PcbSettings(ratio=0.5, outliers=0)).state
    assert torch.equal(merged.modules[f"{ROOT}.0.q"], torch.zeros(1, 3))
    torch.testing.assert_close(merged.modules[f"{ROOT}.1.k"], torch.tensor([[10.0, -20, 30]]))


def test_outliers_are_clamped_to_the_inner_magnitudes() -> None:
    # one of five at each end: the smallest becomes 2, the largest 4; signs stay
    state = vector(q=[1, -2, 3], k=[-4, 100])
    inputs = MergeInput({"x": state, "y": state}, "delta")
    bounds = magnitude_range(inputs, 0.2)
    assert bounds.low.tolist() == [2, 2] and bounds.high.tolist() == [4, 4]
    merged = pcb(inputs, PcbSettings(ratio=0.4, outliers=0.2)).state
    torch.testing.assert_close(merged.modules[f"{ROOT}.1.k"], torch.tensor([[-4.0, 4]]))


def test_weighted_mean_by_hand() -> None:
    values, weights = torch.tensor([[4.0, 5, 1], [2, 1, 7]]), torch.tensor([[0.25, 1, 0], [0.75, 0, 0]])
    assert weighted_mean(values, weights).tolist() == [2.5, 5, 0]


def test_an_expert_that_learned_nothing_has_no_say() -> None:
    # its magnitudes and scores are all 0: a range of one value, which norm maps to 0
    experts = {"x": vector(q=[1, 2, 3, 4]), "y": vector(q=[0, 0, 0, 0])}
    merged = pcb(MergeInput(experts, "delta"), PcbSettings(ratio=0.5)).state
    assert merged.modules[f"{ROOT}.0.q"].tolist() == [[0, 0, 3, 4]]


def test_scores_that_tie_at_the_top_are_kept() -> None:
    # all magnitudes are equal and so are all scores: nothing can be ranked, nothing is dropped
    state = vector(q=[3, -3, 3, -3])
    merged = pcb(MergeInput({"x": state, "y": state}, "delta"), PcbSettings(ratio=0.5)).state
    assert merged.modules[f"{ROOT}.0.q"].tolist() == [[3, -3, 3, -3]]
    assert Range(torch.tensor([2.0]), torch.tensor([2.0])).norm(torch.tensor([[1.0, 2, 5]])).tolist() == [[0, 1, 1]]


def test_many_experts_do_not_overflow() -> None:
    magnitudes = Range(torch.zeros(200), torch.ones(200))
    assert torch.isfinite(scores(torch.ones(200, 1, 2), magnitudes)).all()


def reference(flat: np.ndarray, ratio: float, outliers: float) -> np.ndarray:
    """Intra- and inter-balancing, drop, rescale, on task vectors (N, entries), from the formulas of the method."""

    def norm(values: np.ndarray) -> np.ndarray:
        low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
        return (values - low) / (high - low)

    count, entries = flat.shape
    outlier_count, kept_count = int(outliers * entries), round(ratio * entries)
    ordered = np.sort(np.abs(flat), axis=1)
    magnitudes = np.clip(np.abs(flat), ordered[:, [outlier_count]], ordered[:, [entries - 1 - outlier_count]])
    balance = np.exp(count * norm(magnitudes) ** 2) * np.tanh(flat * flat.sum(axis=0))
    threshold = np.sort(balance, axis=1)[:, [entries - 1 - kept_count]]
    weights = norm(np.maximum(balance, threshold))
    total = weights.sum(axis=0)
    merged = (weights * np.sign(flat) * magnitudes).sum(axis=0)
    return np.divide(merged, total, out=np.zeros_like(merged), where=total > 0)


@settings(max_examples=10, deadline=None)
@given(
    count=st.integers(2, 5),
    ratio=st.sampled_from([0.05, 0.1, 0.2, 0.9]),
    outliers=st.sampled_from([0.0, 0.01, 0.1]),
    seed=st.integers(0, 999),
)
def test_agrees_with_the_formulas_on_flat_vectors(count: int, ratio: float, outliers: float, seed: int) -> None:
    # small updates, or tanh is 1 for so many entries that their scores tie
    experts = make_experts(count, layers=2, seed=seed, scale=0.02, dtype=torch.float64)
    modules = dense(next(iter(experts.values())))
    flat = np.stack([torch.cat([d.flatten() for d in dense(state).values()]).numpy() for state in experts.values()])
    segments = torch.from_numpy(reference(flat, ratio, outliers)).split([d.numel() for d in modules.values()])
    expected = {module: segment.view_as(modules[module]) for module, segment in zip(modules, segments, strict=True)}
    merged = pcb(make_input("pcb", "delta", None, experts), PcbSettings(ratio=ratio, outliers=outliers)).state
    assert distance(merged, expected) < tolerance(torch.float32)  # scores are ranked in float32


@pytest.mark.parametrize("ratio", [0.0, 1.5, -0.2, float("nan")])
def test_ratio_is_a_share(ratio: float) -> None:
    with pytest.raises(ConfigError, match=f"method.ratio={ratio} must be greater than 0 and at most 1"):
        PcbSettings(ratio=ratio)


@pytest.mark.parametrize("outliers", [-0.1, 0.5, float("nan")])
def test_outliers_are_less_than_half(outliers: float) -> None:
    with pytest.raises(ConfigError, match=f"method.outliers={outliers} must be at least 0 and less than 0.5"):
        PcbSettings(outliers=outliers)
