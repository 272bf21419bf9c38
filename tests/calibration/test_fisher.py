"""Fisher information against autograd on a model without PEFT, and against the sum over all labels."""

from __future__ import annotations

import pytest
import torch
from tests import small
from tests.calibration.direct import logits, one, own_places, same, snapshot
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState, delta_name, factor_name
from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.statistics.fisher import FisherSettings, fisher
from esmerge.core.errors import InputError
from esmerge.core.prompts import Prompt
from esmerge.core.torch_rng import torch_generator
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.fisher import FisherMergingSettings
from esmerge.merging.ops.space import tensor_shapes
from esmerge.merging.run import merge
from esmerge.model.attach import PREFIX
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed
from esmerge.probe.variants.single import single
from esmerge.specialists.specialists import Specialists

SPACES = ("factors", "delta")


@pytest.fixture(scope="module")
def specialists() -> Specialists:
    return small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"})


def log_p(specialists: Specialists, name: str, prompt: Prompt, space: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities after each own token, (T, vocabulary), and what they depend on, by tensor name."""
    leaves, parameters = {}, {}
    for module, f in specialists.adapters[name].modules.items():
        leaves[module] = LoraFactors(f.a.clone().requires_grad_(), f.b.clone().requires_grad_(), f.scale)
        if space == "delta":
            parameters[delta_name(module)] = specialists.backbone.model.get_submodule(
                module.removeprefix(PREFIX)
            ).weight
        else:
            parameters |= {factor_name(module, "A"): leaves[module].a, factor_name(module, "B"): leaves[module].b}
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    rows = logits(specialists, LoraState(leaves), one(specialists, prompt))[
        own_places(specialists, prompt, specialists.expert_modality[name])
    ]
    return rows.log_softmax(dim=-1), parameters


def squares(likelihood: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(likelihood, list(parameters.values()), retain_graph=True)
    return {key: gradient.square() for key, gradient in zip(parameters, gradients, strict=True)}


@pytest.fixture(autouse=True)
def frozen(specialists: Specialists) -> None:
    specialists.backbone.model.requires_grad_(False)


@pytest.mark.parametrize("space", SPACES)
def test_equals_autograd_with_the_same_labels(specialists: Specialists, space: str) -> None:
    prompts = mixed(ProbeSettings(samples=4), specialists, seed=1)
    information = fisher(CalibrationData(specialists, prompts, 2, seed=3, space=space), FisherSettings(samples=3))
    assert list(information) == list(specialists.adapters)
    for name, state in specialists.adapters.items():
        total: dict[str, Tensor] = {}
        for index, prompt in enumerate(prompts[:3]):
            rows, parameters = log_p(specialists, name, prompt, space)
            generator = torch_generator(3, "fisher", name, str(index))
            labels = torch.multinomial(rows.detach().exp(), 1, generator=generator)
            for key, square in squares(rows.gather(1, labels).sum(), parameters).items():
                total[key] = total.get(key, torch.zeros(())) + square / 3
        assert {key: tuple(value.shape) for key, value in information[name].items()} == tensor_shapes(state, space)
        for key, expected in total.items():
            assert float((information[name][key] - expected).norm() / expected.norm()) < 1e-3, key


def test_draws_average_to_the_sum_over_all_labels() -> None:
    # E_y [(∂ log p(y|x))²] = Σ over positions and labels of p · (∂ log p)², since positions are drawn independently
    specialists = small.specialists({"mol": "molecule"})
    prompt = mixed(ProbeSettings(samples=1), specialists, seed=2)[0]
    rows, parameters = log_p(specialists, "mol", prompt, "factors")
    expected: dict[str, Tensor] = {}
    for row in rows:
        for label in row:
            for key, square in squares(label, parameters).items():
                expected[key] = expected.get(key, torch.zeros(())) + label.detach().exp() * square
    information = fisher(CalibrationData(specialists, [prompt] * 400, 2, space="factors"), FisherSettings(samples=400))
    exact = sum(float(value.sum()) for value in expected.values())
    estimate = sum(float(value.sum()) for value in information["mol"].values())
    assert estimate == pytest.approx(exact, rel=0.1)
    for key, value in expected.items():
        assert float((information["mol"][key] - value).norm() / value.norm()) < 0.35, key


def test_prompts_without_the_own_modality_are_left_out(specialists: Specialists) -> None:
    prompts = single(ProbeSettings(samples=2), specialists, seed=0)
    protein_prompts = [prompt for prompt in prompts if own_places(specialists, prompt, "protein")]
    other_prompts = [prompt for prompt in prompts if prompt not in protein_prompts]
    information = fisher(CalibrationData(specialists, prompts, 2, space="factors"), FisherSettings())
    reordered = fisher(
        CalibrationData(specialists, [*other_prompts, *protein_prompts], 2, space="factors"), FisherSettings()
    )
    assert all(torch.equal(reordered["prot"][key], value) for key, value in information["prot"].items())


def test_the_seed_decides_the_labels(specialists: Specialists) -> None:
    prompts = mixed(ProbeSettings(samples=2), specialists, seed=1)
    first, second, other = (
        fisher(CalibrationData(specialists, prompts, 2, seed=seed, space="factors"), FisherSettings())["mol"]
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("space", SPACES)
def test_the_model_is_left_as_found(specialists: Specialists, space: str) -> None:
    before = snapshot(specialists)
    fisher(
        CalibrationData(specialists, mixed(ProbeSettings(samples=1), specialists, seed=1), 2, space=space),
        FisherSettings(),
    )
    assert same(before, specialists)


def test_a_modality_that_is_in_no_prompt_is_named(specialists: Specialists) -> None:
    prompts = [
        p for p in single(ProbeSettings(samples=1), specialists, seed=0) if not own_places(specialists, p, "cell")
    ]
    with pytest.raises(InputError, match="the probe holds no cell"):
        fisher(CalibrationData(specialists, prompts, 2, space="factors"), FisherSettings())


@pytest.mark.parametrize("space", SPACES)
def test_what_was_measured_can_be_merged_by(specialists: Specialists, space: str) -> None:
    entry = STATISTICS.get("fisher")
    prompts = mixed(ProbeSettings(samples=2), specialists, seed=1)
    measured = entry.function(CalibrationData(specialists, prompts, 2, space=space), entry.settings())
    inputs = MergeInput(specialists.adapters, space, statistics={"fisher": measured})
    merged = merge("fisher", inputs, FisherMergingSettings()).state
    assert list(merged.modules) == list(specialists.adapters["mol"].modules)
