"""Channel magnitudes against inputs of the bare backbone that are caught by hand."""

from __future__ import annotations

import pytest
import torch
from tests import small
from tests.calibration.direct import linear_inputs, same, snapshot

from esmerge.calibration.api import MEASURES, Material
from esmerge.calibration.measures.channels import ChannelsSettings, channels
from esmerge.calibration.types import BACKBONE
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.aim import AimSettings
from esmerge.merging.run import merge
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed
from esmerge.specialists.team import Team


@pytest.fixture(scope="module")
def team() -> Team:
    return small.team({"mol": "molecule", "gene": "cell"})


@pytest.mark.parametrize(("batch_size", "samples"), [(1, 5), (2, 256), (4, 3)])
def test_equals_inputs_caught_by_hand(team: Team, batch_size: int, samples: int) -> None:
    prompts = mixed(ProbeSettings(samples=5), team, seed=1)
    found = channels(Material(team, prompts, batch_size), ChannelsSettings(samples))
    assert list(found) == [BACKBONE]
    caught = [linear_inputs(team, None, prompt) for prompt in prompts[:samples]]
    assert set(found[BACKBONE]) == set(team.adapters["mol"].modules)
    for module, value in found[BACKBONE].items():
        expected = torch.cat([inputs[module] for inputs in caught]).abs().mean(dim=0)
        assert value.shape == (team.adapters["mol"].modules[module].a.shape[1],)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_the_model_is_left_as_found(team: Team) -> None:
    before = snapshot(team)
    channels(Material(team, mixed(ProbeSettings(samples=2), team, seed=1), 2), ChannelsSettings())
    assert same(before, team)


def test_what_was_measured_can_be_merged_by(team: Team) -> None:
    entry = MEASURES.get("channels")
    measured = entry.function(Material(team, mixed(ProbeSettings(samples=3), team, seed=1), 2), entry.settings())
    inputs = MergeInput(team.adapters, "delta", measured={"channels": measured})
    assert list(merge("aim", inputs, AimSettings()).state.modules) == list(team.adapters["mol"].modules)
