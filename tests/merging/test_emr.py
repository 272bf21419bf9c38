"""EMR-Merging against hand-worked numbers and a NumPy version of its formulas on the flat task vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense, distance, make_experts, make_input, tolerance

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.emr import EmrSettings, elect, emr, masked
from esmerge.merging.run import merge

ROOT = "base_model.model.model.layers"


def vector(**rows: list[float]) -> LoraState:
    """An adapter whose updates are the given single rows, on modules named after their keywords."""
    return LoraState(
        {
            f"{ROOT}.{layer}.{name}": LoraFactors(torch.tensor([row], dtype=torch.float32), torch.ones(1, 1), 1.0)
            for layer, (name, row) in enumerate(rows.items())
        }
    )


EXPERTS = {"x": vector(q=[4, -1, 2], k=[1]), "y": vector(q=[-3, -5, 1], k=[-1]), "z": vector(q=[2, 4, 0], k=[3])}
# sums 3, -2, 3 and 3; the elected task vector is 4, -5, 2 and 3


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        # Σ|x| = 8 over both modules, x agrees everywhere: Σ|masked| = 14
        (("x",), [4 * 8 / 14, -5 * 8 / 14, 2 * 8 / 14, 3 * 8 / 14]),
        # Σ|y| = 10, y agrees on the second and third entry: Σ|masked| = 7
        (("y",), [0, -5 * 10 / 7, 2 * 10 / 7, 0]),
        # Σ|z| = 9, z agrees on the first entry and on k: Σ|masked| = 7
        (("z",), [4 * 9 / 7, 0, 0, 3 * 9 / 7]),
        # together y and z cover everything: mean of 10 and 9, over 14
        (("y", "z"), [4 * 9.5 / 14, -5 * 9.5 / 14, 2 * 9.5 / 14, 3 * 9.5 / 14]),
    ],
)
def test_by_hand(task: tuple[str, ...], expected: list[float]) -> None:
    merged = emr(MergeInput(EXPERTS, "delta", task=task), EmrSettings()).state
    update = torch.cat([merged.modules[f"{ROOT}.0.q"], merged.modules[f"{ROOT}.1.k"]], dim=1)
    torch.testing.assert_close(update, torch.tensor([expected]))
    doubled = emr(MergeInput(EXPERTS, "delta", task=task), EmrSettings(scale=2.0)).state
    torch.testing.assert_close(doubled.modules[f"{ROOT}.0.q"], 2 * torch.tensor([expected[:3]]))


def test_elect_by_hand() -> None:
    # entry 0: sum 3 > 0, the larger of 4 and 2; entry 1: sum -4 < 0, only -5; entry 2: sum exactly 0; entry 3: no one
    stacked = torch.tensor([[4.0, -5, 1, 0], [2, 1, -1, 0], [-3, 0, 0, 0]])
    assert elect(stacked).tolist() == [4, -5, 0, 0]
    assert masked(stacked, [1]).tolist() == [4, 0, 0, 0]


def test_the_order_of_the_task_does_not_matter() -> None:
    first, second = (emr(MergeInput(EXPERTS, "delta", task=task), EmrSettings()).state for task in ("xz", "zx"))
    assert all(torch.equal(first.modules[module], second.modules[module]) for module in first.modules)


def test_identical_experts_return_themselves() -> None:
    expert = make_experts(2)["expert1"]
    merged = emr(MergeInput({"x": expert, "y": expert}, "delta", task=("x",)), EmrSettings()).state
    assert distance(merged, dense(expert)) < tolerance(torch.float32)


def test_the_size_of_the_task_vector_is_the_experts() -> None:
    experts = make_experts(3)
    for name, state in experts.items():
        merged = dense(emr(MergeInput(experts, "delta", task=(name,)), EmrSettings()).state)
        size = sum(float(delta.abs().sum()) for delta in dense(state).values())
        assert sum(float(delta.abs().sum()) for delta in merged.values()) == pytest.approx(size, rel=1e-5)


def test_an_expert_that_learned_nothing_gets_nothing() -> None:
    experts = {"x": vector(q=[1, 2]), "y": vector(q=[0, 0])}
    merged = emr(MergeInput(experts, "delta", task=("y",)), EmrSettings()).state
    assert merged.modules[f"{ROOT}.0.q"].tolist() == [[0, 0]]


def reference(flat: np.ndarray, expert: int) -> np.ndarray:
    """Elect, mask and rescale on task vectors (N, entries), from the formulas of the paper."""
    sign = np.sign(flat.sum(axis=0))
    unified = sign * np.where(np.sign(flat) == sign, np.abs(flat), 0).max(axis=0)
    mask = flat[expert] * unified > 0
    return np.abs(flat[expert]).sum() / np.abs(mask * unified).sum() * mask * unified


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(0, 999), st.data())
def test_agrees_with_the_formulas_on_flat_vectors(count: int, seed: int, data: st.DataObject) -> None:
    experts = make_experts(count, layers=2, seed=seed)
    name = data.draw(st.sampled_from(list(experts)))
    modules = dense(experts[name])
    flat = np.stack([torch.cat([d.flatten() for d in dense(state).values()]).numpy() for state in experts.values()])
    segments = torch.from_numpy(reference(flat, list(experts).index(name))).split([d.numel() for d in modules.values()])
    expected = {module: segment.view_as(modules[module]) for module, segment in zip(modules, segments, strict=True)}
    merged = emr(MergeInput(experts, "delta", task=(name,)), EmrSettings()).state
    assert distance(merged, expected) < 10 * tolerance(torch.float32)


@pytest.mark.parametrize("task", [(), ("nobody",)])
def test_a_task_must_be_named(task: tuple[str, ...]) -> None:
    inputs = replace(make_input("emr", "delta", None, make_experts(2)), task=task)
    with pytest.raises(ConfigError, match="'emr' needs to know the task: name some of expert2, expert1"):
        merge("emr", inputs, EmrSettings())


def test_scale_is_checked() -> None:
    with pytest.raises(ConfigError, match="method.scale=0"):
        EmrSettings(scale=0)
