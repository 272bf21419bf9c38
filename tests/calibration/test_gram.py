"""Gram matrices against inputs that are caught by hand, prompt by prompt, on a model without PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests import small
from tests.calibration.direct import linear_inputs, own_places, same, snapshot
from torch import Tensor

from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.statistics.gram import GramSettings, gram
from esmerge.calibration.stored import load_statistics, save_statistics
from esmerge.core.errors import InputError, NumberError
from esmerge.core.prompts import Prompt
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.regmean import RegMeanSettings
from esmerge.merging.run import merge
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed
from esmerge.probe.variants.single import single
from esmerge.specialists.specialists import Specialists

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}


@pytest.fixture(scope="module")
def specialists() -> Specialists:
    return small.specialists(THREE)


def by_hand(specialists: Specialists, name: str, prompts: list[Prompt], tokens: str) -> dict[str, Tensor]:
    rows: dict[str, list[Tensor]] = {}
    for prompt in prompts:
        places = own_places(specialists, prompt, specialists.expert_modality[name])
        for module, inputs in linear_inputs(specialists, specialists.adapters[name], prompt).items():
            selection = inputs[places] if tokens == "own" else inputs if places else inputs[:0]
            rows.setdefault(module, []).append(selection.double())
    stacked = {module: torch.cat(parts) for module, parts in rows.items()}
    return {module: x.T @ x / len(x) for module, x in stacked.items()}


@pytest.mark.parametrize("tokens", ["own", "all"])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_equals_inputs_caught_by_hand(specialists: Specialists, tokens: str, batch_size: int) -> None:
    # prompts differ in length, so that batches are padded
    prompts = mixed(ProbeSettings(samples=5), specialists, seed=1)
    grams = gram(CalibrationData(specialists, prompts, batch_size), GramSettings(tokens))
    assert list(grams) == list(specialists.adapters)
    for name, state in specialists.adapters.items():
        expected = by_hand(specialists, name, prompts, tokens)
        assert set(grams[name]) == set(state.modules)
        for module, value in grams[name].items():
            assert value.shape == (state.modules[module].a.shape[1],) * 2 and value.dtype == torch.float32
            torch.testing.assert_close(value.double(), expected[module], rtol=1e-4, atol=1e-5)


def test_prompts_with_one_modality_count_for_its_expert_alone(specialists: Specialists) -> None:
    prompts = single(ProbeSettings(samples=2), specialists, seed=0)
    grams = gram(CalibrationData(specialists, prompts, 3), GramSettings())
    for name in specialists.adapters:
        for module, expected in by_hand(specialists, name, prompts, "own").items():
            torch.testing.assert_close(grams[name][module].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_found(specialists: Specialists) -> None:
    before = snapshot(specialists)
    gram(CalibrationData(specialists, mixed(ProbeSettings(samples=2), specialists, seed=1), 2), GramSettings())
    assert same(before, specialists)


def test_a_modality_that_is_in_no_prompt_is_named(specialists: Specialists) -> None:
    prompts = [
        p for p in single(ProbeSettings(samples=1), specialists, seed=0) if not own_places(specialists, p, "cell")
    ]
    with pytest.raises(InputError, match="the probe holds no cell"):
        gram(CalibrationData(specialists, prompts, 2), GramSettings())


def test_what_was_measured_can_be_stored_and_merged_by(specialists: Specialists, tmp_path: Path) -> None:
    entry = STATISTICS.get("gram")
    measured = entry.function(
        CalibrationData(specialists, mixed(ProbeSettings(samples=3), specialists, seed=1), 2), entry.settings()
    )
    save_statistics(measured, tmp_path)
    inputs = MergeInput(specialists.adapters, "delta", statistics={"gram": load_statistics(tmp_path)})
    assert list(merge("regmean", inputs, RegMeanSettings()).state.modules) == list(specialists.adapters["mol"].modules)


def test_statistics_that_are_no_numbers_are_not_stored(tmp_path: Path) -> None:
    measured = {"mol": {"x": torch.ones(2)}, "gene": {"y": torch.tensor([1.0, float("inf")]).half()}}
    with pytest.raises(NumberError, match=r"y of gene \(1 of 2 tensors\) is NaN or infinite in float16"):
        save_statistics(measured, tmp_path)
    assert not list(tmp_path.iterdir())
