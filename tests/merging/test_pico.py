"""Pico against hand-worked matrices and the authors' formula on dense updates, direction by direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense
from tests.merging.matrices import (
    ROOT,
    assert_same,
    deltas_of,
    dense_of,
    elected_mean,
    expert_specs,
    keep_largest,
    random_experts,
)

from esmerge.adapters.dense import DenseState
from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.pico import PicoSettings, pico
from esmerge.merging.methods.task_arithmetic import TaskArithmeticSettings, task_arithmetic
from esmerge.merging.methods.tsv import TsvSettings, tsv

MODULE = f"{ROOT}.0.q"
Experts = dict[str, LoraState]


def calibrated(experts: Experts) -> dict[str, list[np.ndarray]]:
    """Module -> the experts' updates, each turned down along every shared direction of the output."""
    result = {}
    for module, deltas in deltas_of(experts).items():
        parts = [state.modules[module] for state in experts.values()]
        u, values, _ = np.linalg.svd(np.hstack([f.scale * f.b.numpy() for f in parts]), full_matrices=False)
        updates = [delta.copy() for delta in deltas]
        for direction, value in zip(u.T, values, strict=True):
            share = value**2 / (values**2).sum()
            for update, delta in zip(updates, deltas, strict=True):
                update += (1 / (1 + (len(deltas) - 1) * share) - 1) * np.outer(direction, direction @ delta)
        result[module] = updates
    return result


def at_mean_norm(update: np.ndarray, deltas: list[np.ndarray]) -> np.ndarray:
    return update * np.mean([np.linalg.norm(delta) for delta in deltas]) / np.linalg.norm(update)


def test_by_hand() -> None:
    # the B side by side are (2, 0), (1, 0), (0, 1): 5/6 of the energy in the first direction, 1/6 in the second. With
    # two experts those are multiplied by 1 / (1 + 5/6) and 1 / (1 + 1/6). The updates' norms are 2 and 5.
    first = LoraFactors(torch.tensor([[1.0, 0]]).double(), torch.tensor([[2.0], [0]]).double(), 1.0)
    second = LoraFactors(torch.tensor([[0, 3.0], [4, 0]]).double(), torch.tensor([[0.5, 0], [0, 0.5]]).double(), 2.0)
    experts = {name: LoraState({MODULE: factors}) for name, factors in {"x": first, "y": second}.items()}
    calibrated_sum = np.array([[2 * 6 / 11, 3 * 6 / 11], [4 * 6 / 7, 0]])
    expected = 2 * 3.5 * calibrated_sum / np.linalg.norm(calibrated_sum)
    assert_same(pico(MergeInput(experts, "delta"), PicoSettings(scale=2.0)).state, {MODULE: expected})


@pytest.mark.parametrize("first", ["average", "task_arithmetic"])
@settings(max_examples=15, deadline=None)
@given(spec=expert_specs, scale=st.sampled_from([0.3, 1.0]))
def test_agrees_with_the_dense_formula(first: str, spec: dict, scale: float) -> None:
    experts = random_experts(**spec)
    deltas = deltas_of(experts)
    expected = {
        module: scale * at_mean_norm(sum(updates), deltas[module]) for module, updates in calibrated(experts).items()
    }
    assert_same(pico(MergeInput(experts, "delta"), PicoSettings(first=first, scale=scale)).state, expected)


def test_before_ties_the_trim_counts_over_all_modules_of_the_calibrated_experts() -> None:
    experts = random_experts([(5, 7), (3, 4)], [2, 3, 1], 2)
    updates, deltas = calibrated(experts), deltas_of(experts)
    flat = [np.concatenate([updates[module][i].ravel() for module in updates]) for i in range(3)]
    trimmed = [np.split(keep_largest(vector, 0.2), [35]) for vector in flat]
    merged = pico(MergeInput(experts, "delta"), PicoSettings(first="ties", scale=2.0)).state
    assert isinstance(merged, DenseState)
    for index, (module, update) in enumerate(dense(merged).items()):
        elected = elected_mean([parts[index].reshape(update.shape) for parts in trimmed])
        np.testing.assert_allclose(update.numpy(), 2 * at_mean_norm(elected, deltas[module]), rtol=1e-5, atol=1e-6)


def test_before_tsv() -> None:
    experts = random_experts([(5, 7), (3, 4)], [2, 3, 1], 2)
    updates, deltas = calibrated(experts), deltas_of(experts)
    explicit = {
        name: LoraState(
            {
                m: LoraFactors(torch.tensor(matrices[i]), torch.eye(len(matrices[i])).double(), 1.0)
                for m, matrices in updates.items()
            }
        )
        for i, name in enumerate(experts)
    }
    merged = dense_of(tsv(MergeInput(explicit, "delta"), TsvSettings()).state)
    expected = {module: at_mean_norm(update, deltas[module]) for module, update in merged.items()}
    assert_same(pico(MergeInput(experts, "delta"), PicoSettings(first="tsv")).state, expected)


def test_it_depends_on_how_an_update_is_split_and_a_sum_does_not() -> None:
    experts = random_experts([(5, 7)], [2, 2], 3)
    rescaled = {
        name: replace(
            state,
            modules={m: replace(f, a=f.a / 10, b=f.b * 10) if name == "e0" else f for m, f in state.modules.items()},
        )
        for name, state in experts.items()
    }
    summed = [task_arithmetic(MergeInput(e, "delta"), TaskArithmeticSettings()).state for e in (experts, rescaled)]
    merged = [dense_of(pico(MergeInput(e, "delta"), PicoSettings()).state)[MODULE] for e in (experts, rescaled)]
    assert_same(summed[1], dense_of(summed[0]))
    assert np.linalg.norm(merged[0] - merged[1]) > 0.05 * np.linalg.norm(merged[0])


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="method.first='iso_c' must be one of average, task_arithmetic, ties, tsv"):
        PicoSettings(first="iso_c")
