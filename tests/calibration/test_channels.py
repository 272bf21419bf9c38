"""Channel magnitudes against inputs of the bare backbone that are caught by hand."""

from __future__ import annotations

import pytest
import torch
from tests import small
from tests.calibration.direct import linear_inputs, same, snapshot

from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.statistics.channels import ChannelsSettings, channels
from esmerge.calibration.types import BACKBONE
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.aim import AimSettings
from esmerge.merging.run import merge
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed
from esmerge.specialists.specialists import Specialists


@pytest.fixture(scope="module")
def specialists() -> Specialists:
    return small.specialists({"mol": "molecule", "gene": "cell"})


@pytest.mark.parametrize(("batch_size", "samples"), [(1, 5), (2, 256), (4, 3)])
def test_equals_inputs_caught_by_hand(specialists: Specialists, batch_size: int, samples: int) -> None:
    prompts = mixed(ProbeSettings(samples=5), specialists, seed=1)
    magnitudes = channels(CalibrationData(specialists, prompts, batch_size), ChannelsSettings(samples))
    assert list(magnitudes) == [BACKBONE]
    layer_inputs = [linear_inputs(specialists, None, prompt) for prompt in prompts[:samples]]
    assert set(magnitudes[BACKBONE]) == set(specialists.adapters["mol"].modules)
    for module, value in magnitudes[BACKBONE].items():
        expected = torch.cat([inputs[module] for inputs in layer_inputs]).abs().mean(dim=0)
        assert value.shape == (specialists.adapters["mol"].modules[module].a.shape[1],)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_the_model_is_left_as_found(specialists: Specialists) -> None:
    before = snapshot(specialists)
    channels(CalibrationData(specialists, mixed(ProbeSettings(samples=2), specialists, seed=1), 2), ChannelsSettings())
    assert same(before, specialists)


def test_what_was_measured_can_be_merged_by(specialists: Specialists) -> None:
    entry = STATISTICS.get("channels")
    measured = entry.function(
        CalibrationData(specialists, mixed(ProbeSettings(samples=3), specialists, seed=1), 2), entry.settings()
    )
    inputs = MergeInput(specialists.adapters, "delta", statistics={"channels": measured})
    assert list(merge("aim", inputs, AimSettings()).state.modules) == list(specialists.adapters["mol"].modules)
