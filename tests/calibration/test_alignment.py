"""The alignment loss against plain forward passes, and what its fit leaves behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests import small
from torch import Tensor

from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.fitting import mixture
from esmerge.calibration.statistics.alignment import (
    AlignmentSettings,
    alignment,
    alignment_loss,
    calibration_prompts,
    collect_targets,
)
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Entity, Prompt
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed as mixed_probe
from esmerge.probe.variants.single import single
from esmerge.specialists.specialists import Specialists

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}
QUICK = AlignmentSettings(samples=3, steps=6, batch=2)


def material(experts: dict[str, str] | None = None, samples: int = 4, seed: int = 0) -> CalibrationData:
    specialists = small.specialists(experts or THREE)
    return CalibrationData(
        specialists, mixed_probe(ProbeSettings(samples=samples), specialists, 0), batch_size=2, seed=seed
    )


def total(data: CalibrationData, settings: AlignmentSettings, weights: Tensor, layers: list[int]) -> float:
    """The fit's loss without its penalty."""
    with mixture(data.specialists.backbone.model, data.specialists.adapters) as mixed:
        targets = collect_targets(data, mixed, settings, layers)
        mixed.weights = weights
        with torch.no_grad():
            return float(sum(alignment_loss(data.specialists, target, layers, settings.hidden) for target in targets))


def plain_forward(specialists: Specialists, expert: str, segments: Prompt) -> tuple[list[Tensor], Tensor]:
    """Layer outputs and next-token log-probabilities of one prompt at one modality's positions, by PEFT."""
    batch = specialists.prompt_encoder.batch([segments])
    outputs: list[Tensor] = []
    with specialists.backbone.attached(specialists.adapters) as activate, torch.no_grad():
        activate(expert)
        model: Any = specialists.backbone.model
        handles = [
            layer.register_forward_hook(lambda _, args, out: outputs.append(out[0] if isinstance(out, tuple) else out))
            for layer in model.model.layers
        ]
        logits = model(inputs_embeds=batch.embeds, attention_mask=batch.mask).logits
        for handle in handles:
            handle.remove()
    places = [
        p for s in batch.spans[0] if s.modality == specialists.expert_modality[expert] for p in range(s.start, s.stop)
    ]
    return [out[0, places] for out in outputs], logits[0, places].log_softmax(-1)


def test_the_loss_equals_a_naive_one_of_plain_forward_passes() -> None:
    # merged = expert "mol" alone; its own loss is zero, the others' are their distance from it
    data = material()
    specialists, settings = data.specialists, replace(QUICK, samples=4, hidden=0.7)
    expected = 0.0
    for expert in specialists.adapters:
        divergences, errors = [], []
        for segments in data.prompts:
            own, target = plain_forward(specialists, expert, segments)
            probe = replace(
                specialists, expert_modality={**specialists.expert_modality, "mol": specialists.expert_modality[expert]}
            )  # "mol" on this expert's positions
            merged, prediction = plain_forward(probe, "mol", segments)
            divergences += (target.exp() * (target - prediction)).sum(-1).tolist()
            errors += (own[1] - merged[1]).square().mean(-1).tolist()
        expected += (sum(divergences) + 0.7 * sum(errors)) / len(errors) / len(specialists.adapters)
    weights = torch.zeros(3, 3)
    weights[list(specialists.adapters).index("mol")] = 1
    assert expected > 0.01
    assert total(data, settings, weights, [1]) == pytest.approx(expected, rel=1e-4)


def test_an_expert_on_its_own_data_has_no_loss() -> None:
    data = material()
    with mixture(data.specialists.backbone.model, data.specialists.adapters) as mixed:
        targets = collect_targets(data, mixed, QUICK, [0, 1, 2])
        mixed.only(0)
        own = [t for t in targets if torch.equal(t.tokens, targets[0].tokens)]
        assert own and all(float(alignment_loss(data.specialists, t, [0, 1, 2], 1.0)) < 1e-8 for t in own[:2])
        mixed.only(1)
        assert float(alignment_loss(data.specialists, targets[0], [0, 1, 2], 1.0)) > 1e-4


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_the_batch_does_not_change_the_loss(batch: int) -> None:
    data, weights = material(), torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    expected = total(data, QUICK, weights, [1])
    assert total(data, replace(QUICK, batch=batch), weights, [1]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layers", ["middle", "all"])
def test_the_fit_lowers_the_loss_and_returns_a_coefficient_per_expert_and_layer(layers: str) -> None:
    data, settings = material(), replace(QUICK, steps=30, regulariser=0.0, layers=layers)
    coefficients = alignment(data, settings)
    assert list(coefficients) == list(THREE)
    weights = torch.stack([coefficients[name]["layer"] for name in THREE])
    assert weights.shape == (3, 3) and (weights > 0).all() and (weights < 1).all()
    layer_indices = [1] if layers == "middle" else [0, 1, 2]
    before = total(data, settings, torch.full((3, 3), settings.start), layer_indices)
    assert total(data, settings, weights, layer_indices) < 0.9 * before


def test_a_strong_penalty_keeps_the_coefficients_at_their_start() -> None:
    data = material()

    def distance(regulariser: float) -> float:
        coefficients = alignment(data, replace(QUICK, steps=40, regulariser=regulariser))
        return max(float((tensors["layer"] - 0.1).abs().max()) for tensors in coefficients.values())

    assert distance(100.0) < 0.05 < distance(0.0)


def test_same_seed_same_fit_and_the_experts_order_does_not_matter() -> None:
    data = material()
    first, second = alignment(data, QUICK), alignment(data, QUICK)
    adapters = dict(reversed(data.specialists.adapters.items()))
    reordered = alignment(replace(data, specialists=replace(data.specialists, adapters=adapters)), QUICK)
    for name in THREE:
        assert torch.equal(first[name]["layer"], second[name]["layer"])
        torch.testing.assert_close(first[name]["layer"], reordered[name]["layer"], rtol=1e-3, atol=1e-4)


def test_two_experts_of_one_modality_are_both_matched() -> None:
    data = material({"first": "molecule", "second": "molecule", "gene": "cell"})
    coefficients = alignment(data, QUICK)
    assert not torch.equal(coefficients["first"]["layer"], coefficients["second"]["layer"])


def test_calibration_prompts_hold_the_experts_modality_and_depend_on_the_seed() -> None:
    specialists = small.specialists(THREE)
    prompts = single(ProbeSettings(samples=6), specialists, 0)  # each prompt holds one modality
    data = CalibrationData(specialists, prompts, batch_size=2, seed=3)
    for name, modality in THREE.items():
        selection = calibration_prompts(data, name, 4)
        assert len(selection) == 4 and len(calibration_prompts(data, name, 99)) == 6
        assert all(any(isinstance(p, Entity) and p.modality == modality for p in segments) for segments in selection)
        others = [calibration_prompts(replace(data, seed=seed), name, 4) for seed in range(5)]
        assert any(other != selection for other in others)
    assert alignment(data, QUICK).keys() == THREE.keys()


def test_a_probe_without_an_experts_modality_is_refused_by_name() -> None:
    data = replace(material(), prompts=[("drug : ", Entity("molecule", "CCO"))])
    with pytest.raises(InputError, match="the probe holds no protein: every expert's modality must occur"):
        alignment(data, QUICK)


def test_the_specialists_are_left_as_they_were_found() -> None:
    data = material()
    before = {name: p.clone() for name, p in data.specialists.backbone.model.named_parameters()}
    factors = {name: {k: t.clone() for k, t in s.tensors().items()} for name, s in data.specialists.adapters.items()}
    alignment(data, QUICK)
    after = dict(data.specialists.backbone.model.named_parameters())
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None and not p.requires_grad for p in after.values())
    for name, state in data.specialists.adapters.items():
        assert all(torch.equal(state.tensors()[key], value) for key, value in factors[name].items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "method.alignment.samples=0: expected a number from 1"),
        ({"rate": 0.0}, "method.alignment.rate=0.0: expected a number above 0"),
        ({"regulariser": -1.0}, "method.alignment.regulariser=-1.0: expected a number from 0"),
        ({"start": 1.0}, "method.alignment.start=1.0: expected a number between 0 and 1"),
        ({"layers": "last"}, "method.alignment.layers='last' must be one of middle, all"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AlignmentSettings(**changes)


def test_the_measure_reads_no_questions() -> None:
    assert not STATISTICS.get("alignment").info.questions
