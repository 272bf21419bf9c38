"""Expert Merging: fitted coefficients, one per expert and layer, on the dense updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import small
from tests.merging.builders import STATISTIC_MAKERS, dense, distance, make_experts

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.fitting import mixture
from esmerge.calibration.statistics.alignment import AlignmentSettings
from esmerge.core.errors import AdapterError, ConfigError
from esmerge.core.methods import MethodKind
from esmerge.core.names import layer_of
from esmerge.merging.api import MERGES, MergeInput
from esmerge.merging.methods.expert_merging import ExpertMergingSettings, expert_merging
from esmerge.merging.run import merge
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed as mixed_probe

ROOT = "base_model.model.model.layers"


def vector(*layers: list[float]) -> LoraState:
    """An adapter whose update of each layer is one given row."""
    return LoraState(
        {f"{ROOT}.{i}.q": LoraFactors(torch.tensor([row]), torch.ones(1, 1), 1.0) for i, row in enumerate(layers)}
    )


def measured(**layers: list[float]) -> dict:
    return {"alignment": {name: {"layer": torch.tensor(values)} for name, values in layers.items()}}


def test_by_hand() -> None:
    # layer 0: 0.5 * (1, 2) + 0.25 * (4, 8) = (1.5, 3); layer 1: 1 * (3, 0) - 2 * (1, 1) = (1, -2)
    experts = {"x": vector([1.0, 2], [3, 0]), "y": vector([4.0, 8], [1, 1])}
    inputs = MergeInput(experts, "delta", statistics=measured(x=[0.5, 1.0], y=[0.25, -2.0]))
    updates = dense(expert_merging(inputs, ExpertMergingSettings()).state)
    assert updates[f"{ROOT}.0.q"].tolist() == [[1.5, 3]]
    assert updates[f"{ROOT}.1.q"].tolist() == [[1, -2]]
    doubled = dense(expert_merging(inputs, ExpertMergingSettings(scale=2.0)).state)
    assert doubled[f"{ROOT}.1.q"].tolist() == [[2, -4]]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 999))
def test_agrees_with_a_sum_of_dense_updates(count: int, layers: int, seed: int) -> None:
    experts = make_experts(count, layers, rank=2, seed=seed)
    coefficients = STATISTIC_MAKERS["alignment"](experts, "delta", seed)
    merged = expert_merging(
        MergeInput(experts, "delta", statistics={"alignment": coefficients}), ExpertMergingSettings()
    ).state
    expected = {
        module: torch.from_numpy(
            sum(
                float(coefficients[name]["layer"][layer_of(module)])
                * state.modules[module].scale
                * np.matmul(state.modules[module].b.double().numpy(), state.modules[module].a.double().numpy())
                for name, state in experts.items()
            )
        )
        for module in experts["expert1"].modules
    }
    assert distance(merged, expected) < 1e-5
    assert all(factors.rank == 2 * count for factors in merged.modules.values()), "the update keeps a low rank"


def test_one_hot_coefficients_return_the_expert_itself() -> None:
    experts = make_experts(3)
    coefficients = {name: {"layer": torch.full((2,), float(name == "expert2"))} for name in experts}
    merged = expert_merging(
        MergeInput(experts, "delta", statistics={"alignment": coefficients}), ExpertMergingSettings()
    ).state
    for module, factors in experts["expert2"].modules.items():
        assert torch.equal(merged.modules[module].a, factors.a) and torch.equal(merged.modules[module].b, factors.b)


def test_what_is_merged_is_what_was_fitted() -> None:
    specialists = small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"})
    prompts = mixed_probe(ProbeSettings(samples=3), specialists, 0)
    config = ExpertMergingSettings(alignment=AlignmentSettings(samples=2, steps=3))
    coefficients = STATISTICS.get("alignment").function(CalibrationData(specialists, prompts, 2), config.alignment)
    merged = merge(
        "expert_merging", MergeInput(specialists.adapters, "delta", statistics={"alignment": coefficients}), config
    ).state
    batch = specialists.prompt_encoder.batch(prompts)

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return specialists.backbone.model(inputs_embeds=batch.embeds, attention_mask=batch.mask).logits

    with mixture(specialists.backbone.model, specialists.adapters) as mixed:
        mixed.weights = torch.stack([coefficients[name]["layer"] for name in specialists.adapters])
        fitted = logits()
    with specialists.backbone.attached({"merged": merged}) as activate:
        activate("merged")
        torch.testing.assert_close(logits(), fitted, rtol=1e-4, atol=1e-4)


def test_coefficients_of_other_layers_or_experts_are_refused() -> None:
    experts = make_experts(2)
    short = MergeInput(experts, "delta", statistics=measured(expert1=[1.0], expert2=[1.0, 2.0]))
    with pytest.raises(AdapterError, match=r"gives expert 'expert1' coefficients of shape \(1,\).*2 layers"):
        merge("expert_merging", short, ExpertMergingSettings())
    fewer = MergeInput(experts, "delta", statistics=measured(expert1=[1.0, 2.0]))
    with pytest.raises(ConfigError, match="the measure 'alignment' lacks the experts expert2"):
        merge("expert_merging", fewer, ExpertMergingSettings())
    with pytest.raises(ConfigError, match="needs the measure 'alignment'"):
        merge("expert_merging", MergeInput(experts, "delta"), ExpertMergingSettings())


def test_it_names_its_measure_and_needs_no_test_data() -> None:
    info = MERGES.get("expert_merging").info
    assert info.needs == ("alignment",) and info.kind is MethodKind.MERGE


def test_scale_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="method.scale=0 must be greater than 0"):
        ExpertMergingSettings(scale=0)
