"""Task arithmetic against hand-worked numbers and mergekit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense, distance, make_experts
from tests.merging.drops import MODULE as ONLY
from tests.merging.drops import mergekit, random_input

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.task_arithmetic import TaskArithmeticSettings, task_arithmetic

MODULE = "base_model.model.model.layers.0.q_proj"


def test_by_hand() -> None:
    # 0.4 * (2 * 5 * 1 + 1 * 1 * -3) = 0.4 * 7
    experts = {
        "x": LoraState({MODULE: LoraFactors(torch.tensor([[1.0]]), torch.tensor([[5.0]]), 2.0)}),
        "y": LoraState({MODULE: LoraFactors(torch.tensor([[-3.0]]), torch.tensor([[1.0]]), 1.0)}),
    }
    merged = task_arithmetic(MergeInput(experts, "delta"), TaskArithmeticSettings()).state
    assert merged.modules[MODULE].delta().item() == pytest.approx(2.8)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_identical_experts_add_up(count: int) -> None:
    expert = make_experts(2)["expert1"]
    inputs = MergeInput({f"copy{i}": expert for i in range(count)}, "delta")
    merged = task_arithmetic(inputs, TaskArithmeticSettings(scale=0.5)).state
    assert distance(merged, {module: 0.5 * count * delta for module, delta in dense(expert).items()}) < 1e-6


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 5), st.integers(0, 999))
def test_agrees_with_mergekit(count: int, seed: int) -> None:
    inputs, deltas = random_input(count, seed)
    merged = task_arithmetic(inputs, TaskArithmeticSettings(scale=0.4)).state
    expected = 0.4 * mergekit("task_arithmetic", deltas, normalize=False)
    torch.testing.assert_close(merged.modules[ONLY].delta(), expected)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scale_must_be_positive_and_finite(scale: float) -> None:
    with pytest.raises(ConfigError, match=f"method.scale={scale} must be greater than 0"):
        TaskArithmeticSettings(scale=scale)
