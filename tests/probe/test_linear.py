"""Linear maps that leave scores by batch and skip positions without a gradient, against torch's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from esmerge.core.errors import AdapterError
from esmerge.probe.adapted import AdapterSwitch, adapter_switches
from esmerge.probe.linear import Scores, ScoringLinear

POWERS: dict[str, Callable[[Tensor], Tensor]] = {"absolute": torch.abs, "squared": torch.square}
BATCHES = st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=4)


def kept_positions(batches: list[list[bool]]) -> Tensor:
    return torch.tensor([flag for batch in batches for flag in batch])


def ends(batches: list[list[bool]]) -> list[int]:
    return list(accumulate(map(len, batches)))


def one_by_one(
    output: Callable[[], Tensor], batches: list[list[bool]], leaves: list[Tensor], score: str
) -> list[Tensor]:
    """Σ over batches of the powers of gradients, each batch differentiated by itself, by torch alone."""
    totals = [torch.zeros_like(leaf) for leaf in leaves]
    mask, start = kept_positions(batches), 0
    for stop in ends(batches):
        positions = torch.arange(start, stop)[mask[start:stop]]
        loss = output()[positions].square().sum()
        for total, gradient in zip(totals, torch.autograd.grad(loss, leaves), strict=True):
            total += POWERS[score](gradient)
        start = stop
    return totals


@given(BATCHES, st.booleans(), st.sampled_from(list(POWERS)), st.integers(0, 99))
def test_a_pass_of_several_batches_scores_each_by_itself(
    batches: list[list[bool]], bias: bool, score: str, seed: int
) -> None:
    generator, mask = torch.Generator().manual_seed(seed), kept_positions(batches)
    shapes = [(len(mask), 3), (4, 3), *([(4,)] if bias else [])]
    leaves = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    scores = Scores(score, ends(batches))
    with ScoringLinear(scores):
        output = functional.linear(*leaves)
    expected = functional.linear(*leaves)
    assert torch.allclose(output, expected, atol=1e-6)
    loss, expected_loss = output[mask].square().sum(), expected[mask].square().sum()
    gradients = torch.autograd.grad(loss, [leaves[0], *leaves[2:]])
    for ours, theirs in zip(gradients, torch.autograd.grad(expected_loss, [leaves[0], *leaves[2:]]), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    (expected_scores,) = one_by_one(lambda: functional.linear(*leaves), batches, [leaves[1]], score)
    assert torch.allclose(scores.by_weight[leaves[1]], expected_scores, rtol=1e-4, atol=1e-4)


@contextmanager
def adapted(dtype: torch.dtype = torch.float32, bias: bool = True) -> Iterator[nn.Module]:
    """A linear layer with two experts on it, one of which adapts it."""
    torch.manual_seed(0)
    body = nn.ModuleDict({"map": nn.Linear(6, 5, bias=bias), "other": nn.Linear(6, 5)}).to(dtype)
    for name, target in (("one", "map"), ("two", "other")):
        config = LoraConfig(r=2, lora_alpha=6, target_modules=[target], lora_dropout=0.0, init_lora_weights=False)
        inject_adapter_in_model(config, body, adapter_name=name)
    yield body


@given(BATCHES, st.sampled_from(list(POWERS)), st.integers(0, 99))
def test_an_adapted_map_is_peft_s_and_scores_all_three_matrices(
    batches: list[list[bool]], score: str, seed: int
) -> None:
    generator, mask = torch.Generator().manual_seed(seed), kept_positions(batches)
    input = torch.randn(len(mask), 6, generator=generator).requires_grad_()
    with adapted() as body:
        module = body["map"]
        leaves = [module.base_layer.weight, module.lora_A["one"].weight, module.lora_B["one"].weight]
        module.set_adapter(["one"])
        for leaf in leaves:
            leaf.requires_grad_()
        expected = module(input)
        by_hand = one_by_one(lambda: module(input), batches, leaves, score)
        (expected_gradient,) = torch.autograd.grad(expected[mask].square().sum(), input, retain_graph=True)
        scores = Scores(score, ends(batches))
        with adapter_switches([body], scores) as (switch,):
            switch.to("one")
            output = module(input)
        (gradient,) = torch.autograd.grad(output[mask].square().sum(), input)
        assert torch.allclose(output, expected, atol=1e-5) and torch.allclose(
            gradient, expected_gradient, rtol=1e-4, atol=1e-4
        )
        for leaf, value in zip(leaves, by_hand, strict=True):
            assert torch.allclose(scores.by_weight[leaf], value, rtol=1e-4, atol=1e-3)


def test_the_bare_backbone_and_an_expert_that_lacks_the_map_pass_it_as_it_is() -> None:
    with adapted() as body:
        input, module = torch.randn(3, 6), body["map"]
        base = module.base_layer(input)
        with adapter_switches([body], Scores("absolute", [3])) as (switch,):
            assert torch.equal(module(input), base)
            switch.to("two")
            assert torch.equal(module(input), base)
            switch.to("one")
            assert not torch.equal(module(input), base)
        assert "forward" not in module.__dict__


def test_what_is_no_plain_linear_layer_is_left_to_peft() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    body = nn.ModuleDict({"map": Doubled(6, 5)})
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["map"], init_lora_weights=False), body, adapter_name="one")
    input, module, scores = torch.randn(4, 6), body["map"], Scores("absolute", [2, 4])
    b = module.lora_B["one"].weight
    assert AdapterSwitch(body, scores).direct == []
    with adapter_switches([body], scores) as (switch,):
        assert torch.equal(module(input), module.base_layer(input))
        switch.to("one")
        with ScoringLinear(scores):
            output = module(input)
    expected = one_by_one(lambda: module(input), [[True] * 2] * 2, [b], "absolute")
    output.square().sum().backward()
    assert torch.allclose(scores.by_weight[b], expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
@pytest.mark.parametrize("at_once", [0, 2**18])
@pytest.mark.parametrize("ends_", [[2, 4, 6], [1, 1, 6], [0, 0, 0]])
def test_batches_of_one_size_are_scored_together_and_others_one_by_one(
    shape: tuple[int, int], at_once: int, ends_: list[int]
) -> None:
    out, width = shape
    left, right, weight = torch.randn(ends_[-1], out), torch.randn(ends_[-1], width), torch.empty(shape)
    scores = Scores("absolute", ends_, at_once)
    scores.add(weight, left, right, scores.parts(None), -2.0)
    bounds = list(zip([0, *ends_[:-1]], ends_, strict=True))
    expected = sum(((-2 * left[a:b].T @ right[a:b]).abs() for a, b in bounds), torch.zeros(shape))
    assert torch.allclose(scores.by_weight[weight], expected, atol=1e-5)


def test_a_layer_is_complete_if_every_linear_map_is_computed_here() -> None:
    with adapted() as body:
        assert AdapterSwitch(body, Scores("absolute", [1])).complete
    with adapted() as body:
        body["third"] = nn.Linear(6, 5)
        assert not AdapterSwitch(body, Scores("absolute", [1])).complete


def test_a_map_that_is_used_twice_is_refused() -> None:
    weight, scores = torch.randn(4, 3, requires_grad=True), Scores("absolute", [2])
    with ScoringLinear(scores):
        output = functional.linear(torch.randn(2, 3), weight) + functional.linear(torch.randn(2, 3), weight)
    with pytest.raises(AdapterError, match=r"shape \(4, 3\) is used twice"):
        output.sum().backward()


def test_half_precision_is_squared_in_float32() -> None:
    weight, scores = torch.zeros(1, 1, dtype=torch.float16, requires_grad=True), Scores("squared", [1, 2])
    with ScoringLinear(scores):
        output = functional.linear(torch.full((2, 1), 1e-4, dtype=torch.float16), weight)
    output.sum().backward()
    assert scores.by_weight[weight].item() == pytest.approx(2e-8, rel=1e-2)


def test_a_vector_is_one_position() -> None:
    input, weight = torch.randn(3).requires_grad_(), torch.randn(4, 3)
    with ScoringLinear(Scores("absolute", [1])):
        output = functional.linear(input, weight=weight)
    assert output.shape == (4,)
    assert torch.allclose(torch.autograd.grad(output.sum(), input)[0], weight.sum(dim=0))


def test_infinities_and_nan_are_not_left_out() -> None:
    input, weight = torch.randn(9, 3).requires_grad_(), torch.randn(4, 3)
    with ScoringLinear(Scores("absolute", [9])):
        output = functional.linear(input, weight)
    above = torch.zeros(9, 4)
    above[1], above[2] = float("nan"), float("inf")
    gradient = torch.autograd.grad(output, input, above)[0]
    assert gradient[1].isnan().all() and not gradient[2].isfinite().any() and not gradient[3:].any()


@pytest.mark.parametrize(("count", "positions"), [(0, 0), (2, 2), (7, 7), (8, 10), (10, 10)])
def test_only_positions_with_a_gradient_are_multiplied(count: int, positions: int) -> None:
    input, weight = torch.randn(10, 3).requires_grad_(), torch.randn(4, 3)
    with ScoringLinear(Scores("absolute", [10])):
        output = functional.linear(input, weight)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(output[:count].sum(), input)
    assert counter.get_total_flops() == 2 * positions * 3 * 4
