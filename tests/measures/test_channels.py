"""Channel magnitudes against inputs of the bare backbone that are caught by hand."""

from __future__ import annotations

import pytest
import torch

from src.measures import MEASURES, Material
from src.measures.channels import ChannelsSettings, channels
from src.merging import BACKBONE, MergeInput
from src.merging.aim import AimSettings
from src.merging.run import merge
from src.probe.mixed import mixed
from src.probe.prompts import ProbeSettings
from src.specialists.team import Team
from tests import small
from tests.measures.direct import linear_inputs, same, snapshot


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
