"""RegMean++'s Gram matrices against whole forward passes of half-merged models, by hand and prompt by prompt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import small
from tests.calibration.direct import linear_inputs, own_places, same, snapshot

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.api import CalibrationData
from esmerge.calibration.statistics.gram import GramSettings, gram
from esmerge.calibration.statistics.propagated_gram import PropagatedGramSettings, propagated_gram
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.names import layer_of
from esmerge.core.prompts import Prompt
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.regmean_plus_plus import RegMeanPlusPlusSettings
from esmerge.merging.run import merge
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed
from esmerge.probe.variants.single import single
from esmerge.specialists.specialists import Specialists

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}
Matrices = dict[str, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def specialists() -> Specialists:
    ready = small.specialists(THREE)
    odd = small.adapter(ready.backbone, 99, rank=3, scale=0.5)
    return replace(ready, adapters={**ready.adapters, "prot": odd})


def by_hand(
    specialists: Specialists, prompts: list[Prompt], tokens: str, factor: float
) -> tuple[Matrices, dict[str, np.ndarray]]:
    """Gram matrices and RegMean++'s merged updates: for each layer, whole passes with everything below merged."""
    grams: Matrices = {name: {} for name in specialists.adapters}
    merged: dict[str, np.ndarray] = {}
    for layer in range(3):
        for name, state in specialists.adapters.items():
            below = {m: torch.tensor(update, dtype=torch.float32) for m, update in merged.items()}
            modules = {m: LoraFactors(update, torch.eye(len(update)), 1.0) for m, update in below.items()}
            half = LoraState({**state.modules, **modules})  # the layers above are the expert's, and do not matter
            rows: dict[str, list[np.ndarray]] = {}
            for prompt in prompts:
                places = own_places(specialists, prompt, specialists.expert_modality[name])
                for module, inputs in linear_inputs(specialists, half, prompt).items():
                    selection = inputs[places] if tokens == "own" else inputs if places else inputs[:0]
                    rows.setdefault(module, []).append(selection.double().numpy())
            for module in (module for module in rows if layer_of(module) == layer):
                x = np.concatenate(rows[module])
                grams[name][module] = x.T @ x / len(x)
        for module in (module for module in grams["mol"] if layer_of(module) == layer):
            shrunk = {
                name: matrices[module] * (factor + (1 - factor) * np.eye(len(matrices[module])))
                for name, matrices in grams.items()
            }
            deltas = {name: s.modules[module].delta().double().numpy() for name, s in specialists.adapters.items()}
            inverse = np.linalg.inv(sum(shrunk.values()))
            merged[module] = sum(deltas[name] @ shrunk[name] for name in deltas) @ inverse
    return grams, merged


@pytest.mark.parametrize(("tokens", "batch_size"), [("own", 2), ("all", 5)])
def test_equals_passes_of_half_merged_models(specialists: Specialists, tokens: str, batch_size: int) -> None:
    prompts = mixed(ProbeSettings(samples=5), specialists, seed=1)  # of different lengths: batches are padded
    settings = PropagatedGramSettings(tokens, off_diagonal=0.5)
    measured = propagated_gram(CalibrationData(specialists, prompts, batch_size), settings)
    expected, merged = by_hand(specialists, prompts, tokens, 0.5)
    assert list(measured) == list(specialists.adapters)
    for name, state in specialists.adapters.items():
        assert set(measured[name]) == set(state.modules)
        for module, value in measured[name].items():
            assert value.dtype == torch.float32
            np.testing.assert_allclose(value.numpy(), expected[name][module], rtol=1e-3, atol=1e-4)
    inputs = MergeInput(specialists.adapters, "delta", statistics={"propagated_gram": measured})
    state = merge("regmean_plus_plus", inputs, RegMeanPlusPlusSettings(gram=settings)).state
    for module, update in merged.items():
        delta = state.modules[module].delta().numpy()
        np.testing.assert_allclose(delta, update, rtol=0, atol=1e-3 * np.abs(update).max())


def test_the_first_layer_is_regmeans_and_the_others_are_not(specialists: Specialists) -> None:
    data = CalibrationData(specialists, mixed(ProbeSettings(samples=4), specialists, seed=1), 2)
    propagated, plain = propagated_gram(data, PropagatedGramSettings()), gram(data, GramSettings())
    for name, matrices in plain.items():
        for module, value in matrices.items():
            distance = float((propagated[name][module] - value).norm() / value.norm())
            assert distance < 1e-4 if layer_of(module) == 0 else distance > 1e-3


def test_prompts_with_one_modality_count_for_its_expert_alone(specialists: Specialists) -> None:
    prompts = single(ProbeSettings(samples=2), specialists, seed=0)
    measured = propagated_gram(CalibrationData(specialists, prompts, 3), PropagatedGramSettings("all"))
    expected, _ = by_hand(specialists, prompts, "all", 0.95)
    for name, matrices in measured.items():
        for module, value in matrices.items():
            np.testing.assert_allclose(value.numpy(), expected[name][module], rtol=1e-3, atol=1e-4)


def test_identical_experts_are_handed_up_as_they_are(specialists: Specialists) -> None:
    adapter = specialists.adapters["mol"]
    copies = replace(specialists, adapters=dict.fromkeys(specialists.adapters, adapter))
    data = CalibrationData(copies, mixed(ProbeSettings(samples=3), specialists, seed=1), 2)
    propagated, plain = propagated_gram(data, PropagatedGramSettings()), gram(data, GramSettings())
    for name, matrices in plain.items():
        for module, value in matrices.items():
            torch.testing.assert_close(propagated[name][module], value, rtol=1e-3, atol=1e-4)


def test_the_model_is_left_as_found(specialists: Specialists) -> None:
    before = snapshot(specialists)
    prompts = mixed(ProbeSettings(samples=2), specialists, seed=1)
    propagated_gram(CalibrationData(specialists, prompts, 2), PropagatedGramSettings())
    assert same(before, specialists)


def test_a_modality_that_is_in_no_prompt_is_named(specialists: Specialists) -> None:
    prompts = [
        p for p in single(ProbeSettings(samples=1), specialists, seed=0) if not own_places(specialists, p, "cell")
    ]
    with pytest.raises(InputError, match="the probe holds no cell"):
        propagated_gram(CalibrationData(specialists, prompts, 2), PropagatedGramSettings())


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="method.gram.off_diagonal=1.5: expected a share"):
        PropagatedGramSettings(off_diagonal=1.5)
    with pytest.raises(ConfigError, match="method.gram.tokens='some' must be one of own, all"):
        PropagatedGramSettings(tokens="some")
