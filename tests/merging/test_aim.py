"""AIM against hand-worked columns and against the merges that it relaxes."""

from __future__ import annotations

import pytest
import torch
from tests.merging.builders import dense, distance, make_channels, make_experts

from esmerge.adapters.dense import DenseState
from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.statistics.channels import ChannelsSettings
from esmerge.calibration.types import BACKBONE
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MERGES, MergeInput
from esmerge.merging.methods.aim import MERGED, AimSettings, aim, relaxation

MODULE = "base_model.model.model.layers.0.q_proj"


def test_by_hand() -> None:
    # average (2, 4, 6); magnitudes (8, 4, 0) over their largest: (1, ½, 0); with ω = 0.4 that keeps (0.4, 0.7, 1)
    experts = {
        name: LoraState({MODULE: LoraFactors(torch.tensor([row]), torch.ones(1, 1), 1.0)})
        for name, row in {"x": [1.0, 8.0, 6.0], "y": [3.0, 0.0, 6.0]}.items()
    }
    measured = {"channels": {BACKBONE: {MODULE: torch.tensor([8.0, 4.0, 0.0])}}}
    merged = aim(MergeInput(experts, "delta", statistics=measured), AimSettings(merge="average", scale=10.0)).state
    assert dense(merged)[MODULE].tolist() == [pytest.approx([8.0, 28.0, 60.0])]


def test_relaxation_of_a_silent_layer_keeps_everything() -> None:
    assert relaxation(torch.zeros(3), 0.4).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", MERGED)
def test_columns_of_another_merge_are_scaled(name: str) -> None:
    experts = make_experts(3)
    magnitudes = make_channels(experts, "delta", 0)
    entry = MERGES.get(name)
    plain = entry.function(MergeInput(experts, "delta"), entry.settings()).state
    inputs = MergeInput(experts, "delta", statistics={"channels": magnitudes})
    merged = aim(inputs, AimSettings(merge=name, omega=0.25)).state
    assert type(merged) is type(plain), "what has a low rank keeps it"
    expected = {}
    for module, delta in dense(plain).items():
        importance = magnitudes[BACKBONE][module] / magnitudes[BACKBONE][module].max()
        expected[module] = delta @ torch.diag(1 - 0.75 * importance).double()
    assert distance(merged, expected) < 1e-5


@pytest.mark.parametrize("name", MERGED)
def test_an_omega_of_one_is_the_merge_itself(name: str) -> None:
    experts, entry = make_experts(2), MERGES.get(name)
    inputs = MergeInput(experts, "delta", statistics={"channels": make_channels(experts, "delta", 0)})
    plain = entry.function(inputs, entry.settings()).state
    assert distance(aim(inputs, AimSettings(merge=name, omega=1.0)).state, dense(plain)) < 1e-6


def test_dense_merges_stay_on_demand() -> None:
    experts = make_experts(2)
    inputs = MergeInput(experts, "delta", statistics={"channels": make_channels(experts, "delta", 0)})
    assert isinstance(aim(inputs, AimSettings(merge="ties")).state, DenseState)
    assert isinstance(aim(inputs, AimSettings(merge="ties", rank=2)).state, LoraState)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="method.merge='es' must be one of average, task_arithmetic, ties"):
        AimSettings(merge="es")
    with pytest.raises(ConfigError, match="method.omega=1.5: expected a share from 0 to 1"):
        AimSettings(omega=1.5)
    with pytest.raises(ConfigError, match="method.channels.samples=0: expected a number from 1"):
        ChannelsSettings(samples=0)
