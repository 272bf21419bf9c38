"""All adapters at once against PEFT's forward pass, dense weights and finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tests import small
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.fitting import Mixture, fit, mixture
from esmerge.core.errors import AdapterError, NumberError
from esmerge.core.names import layer_of
from esmerge.model.attach import PREFIX
from esmerge.specialists.specialists import Specialists

LAYERS = 3


def make_specialists() -> Specialists:
    """Three experts, one of them with other ranks and another scale."""
    specialists = small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"}, layers=LAYERS)
    odd = small.adapter(specialists.backbone, 99, rank=3, scale=0.5, ranks={"model.layers.0.self_attn.q_proj": 1})
    return replace(specialists, adapters={**specialists.adapters, "prot": odd})


@pytest.fixture
def specialists() -> Specialists:
    return make_specialists()


def logits(specialists: Specialists) -> Tensor:
    batch = specialists.prompt_encoder.batch([("drug : no ; cell : ALB TTR",), ("protein : yes not at all",)])
    return specialists.backbone.model(inputs_embeds=batch.embeds, attention_mask=batch.mask).logits


def random_weights(seed: int = 0) -> Tensor:
    return torch.randn(3, LAYERS, generator=torch.Generator().manual_seed(seed))


def test_an_expert_alone_is_what_peft_makes_of_it(specialists: Specialists) -> None:
    for index, name in enumerate(specialists.adapters):
        with specialists.backbone.attached(specialists.adapters) as activate, torch.no_grad():
            activate(name)
            expected = logits(specialists)
        with mixture(specialists.backbone.model, specialists.adapters) as mixed:
            mixed.only(index)
            torch.testing.assert_close(logits(specialists), expected, rtol=1e-5, atol=1e-5)


def test_float16_is_refused(specialists: Specialists) -> None:
    specialists.backbone.model.half()
    fails = pytest.raises(NumberError, match="the backbone is in float16.*load it in bfloat16 or float32")
    with fails, mixture(specialists.backbone.model, specialists.adapters):
        pass


def test_coefficients_weigh_the_dense_updates_layer_by_layer(specialists: Specialists) -> None:
    weights = random_weights()
    with mixture(specialists.backbone.model, specialists.adapters) as mixed:
        plain = logits(specialists)
        mixed.weights = weights
        mixed_logits = logits(specialists)
    baked = make_specialists()
    torch.testing.assert_close(plain, logits(baked))  # coefficients of zero: the bare backbone
    for index, state in enumerate(specialists.adapters.values()):
        for module, factors in state.modules.items():
            linear = baked.backbone.model.get_submodule(module.removeprefix(PREFIX))
            linear.weight.data += weights[index, layer_of(module)] * factors.delta()
    torch.testing.assert_close(mixed_logits, logits(baked), rtol=1e-4, atol=1e-4)


def test_the_gradient_of_every_coefficient_equals_finite_differences(specialists: Specialists) -> None:
    specialists.backbone.model.double()
    direction = torch.randn(logits(specialists).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with mixture(specialists.backbone.model, specialists.adapters) as mixed:
        weights = random_weights().double()

        def value(c: Tensor) -> Tensor:
            mixed.weights = c
            return (logits(specialists) * direction).sum()

        leaf = weights.clone().requires_grad_()
        value(leaf).backward()
        assert all(parameter.grad is None for parameter in specialists.backbone.model.parameters())
        exact = leaf.grad.flatten()
        tolerance = 1e-3 * float(exact.abs().max())
        step = 1e-3  # the backbone normalises in single precision: a smaller one would drown in its rounding
        for place in range(weights.numel()):
            nudge = torch.zeros(weights.numel(), dtype=torch.float64)
            nudge[place] = step
            nudge = nudge.view_as(weights)
            slope = float(value(weights + nudge) - value(weights - nudge)) / (2 * step)
            assert float(exact[place]) == pytest.approx(slope, abs=tolerance)


@pytest.mark.parametrize("trainable", [False, True])
def test_the_model_is_left_as_it_was_found_even_after_an_error(specialists: Specialists, trainable: bool) -> None:
    model = specialists.backbone.model
    model.requires_grad_(trainable)
    before, expected = {name: p.clone() for name, p in model.named_parameters()}, logits(specialists)
    with pytest.raises(RuntimeError, match="half way"), mixture(model, specialists.adapters) as mixed:
        mixed.weights = random_weights()
        assert not any(p.requires_grad for p in model.parameters())
        raise RuntimeError("half way")
    assert all(p.requires_grad == trainable and torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert torch.equal(logits(specialists), expected)


def test_adapters_that_do_not_fit_are_refused_by_name(specialists: Specialists) -> None:
    def moved(state: LoraState) -> LoraState:
        return replace(state, modules={m.replace("q_proj", "x_proj"): f for m, f in state.modules.items()})

    model = specialists.backbone.model
    absent = {name: moved(state) for name, state in specialists.adapters.items()}
    with pytest.raises(AdapterError, match="x_proj: the backbone has no such linear layer"), mixture(model, absent):
        pass
    apart = {"mol": specialists.adapters["mol"], "gene": moved(specialists.adapters["gene"])}
    with pytest.raises(AdapterError, match="'mol' and 'gene' adapt different modules"), mixture(model, apart):
        pass


def test_half_precision_backbones_keep_their_number_format(specialists: Specialists) -> None:
    specialists.backbone.model.bfloat16()
    with mixture(specialists.backbone.model, specialists.adapters) as mixed:
        mixed.weights = random_weights().requires_grad_()
        output = logits(specialists)
        output.float().square().mean().backward()
        assert output.dtype == torch.bfloat16
        assert mixed.weights.grad.dtype == torch.float32 and mixed.weights.grad.all()


def test_the_fit_finds_the_least_of_a_parabola_within_its_bounds() -> None:
    mixed = Mixture(torch.zeros(2, 2))
    goal = torch.tensor([[0.2, 0.9], [0.5, 3.0]])  # the last one lies beyond the bound of 1

    def losses(step: int) -> Iterator[Tensor]:
        yield (mixed.weights - goal).square().sum() / 4
        yield 3 * (mixed.weights - goal).square().sum() / 4

    history = fit("parabola", mixed, torch.full((2, 2), 0.3), lambda raw: raw.clamp(0, 1), losses, 400, 0.02, 0.1)
    torch.testing.assert_close(mixed.weights, torch.tensor([[0.2, 0.9], [0.5, 1.0]]), rtol=0, atol=1e-3)
    assert len(history) == 400 and history[-1] < history[0]
    assert history[0] == pytest.approx(float((0.3 - goal).square().sum()))
    assert not mixed.weights.requires_grad


def test_the_first_step_is_adams() -> None:
    # Adam's first step is the rate in the direction of each gradient's sign, whatever its size
    mixed = Mixture(torch.zeros(1, 3))
    slopes = torch.tensor([[5.0, -0.01, 1.0]])
    fit("line", mixed, torch.zeros(1, 3), lambda raw: raw * 1, lambda step: [(mixed.weights * slopes).sum()], 1, 0.1)
    torch.testing.assert_close(mixed.weights, torch.tensor([[-0.1, 0.1, -0.1]]), rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_fit_with_its_step() -> None:
    mixed = Mixture(torch.zeros(1, 1))

    def losses(step: int) -> Iterator[Tensor]:
        yield mixed.weights.sum() / (0 if step == 2 else 1) + (float("nan") if step == 2 else 0)

    with pytest.raises(FloatingPointError, match="line: the loss is nan at step 2; lower the learning rate"):
        fit("line", mixed, torch.zeros(1, 1), lambda raw: raw * 1, losses, 5, 0.1)


def test_measured_is_one_row_per_expert(specialists: Specialists) -> None:
    mixed = Mixture(random_weights())
    coefficients = mixed.measured(specialists.adapters)
    assert {name: list(tensors) for name, tensors in coefficients.items()} == dict.fromkeys(
        specialists.adapters, ["layer"]
    )
    for index, name in enumerate(specialists.adapters):
        assert torch.equal(coefficients[name]["layer"], mixed.weights[index])


def test_stacked_factors_are_of_the_adapters_at_hand() -> None:
    # by hand: W = 0, two experts of one input: 2 * 0.5 * (3 * x) and 1 * -1 * (4 * x), so 3 x - 4 x = -x
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False)])})
    model["layers"][0].weight.data.zero_()
    module = f"{PREFIX}layers.0"
    first = LoraState({module: LoraFactors(torch.tensor([[3.0]]), torch.tensor([[1.0]]), 2.0)})
    second = LoraState({module: LoraFactors(torch.tensor([[1.0]]), torch.tensor([[4.0]]), 1.0)})
    with mixture(model, {"one": first, "two": second}) as mixed:
        mixed.weights = torch.tensor([[0.5], [-1.0]])
        assert model["layers"][0](torch.tensor([[7.0]])).item() == pytest.approx(-7.0)
