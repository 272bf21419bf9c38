"""Averaging against hand-worked numbers and PEFT."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.merging.builders import dense, distance, make_experts, modules_of
from torch import nn

from esmerge.adapters.lora import LoraFactors, LoraState, delta_name
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.average import average
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine_deltas

MODULE = "base_model.model.model.layers.0.q_proj"


def one(a: float, b: float, scale: float) -> LoraState:
    return LoraState({MODULE: LoraFactors(torch.tensor([[float(a)]]), torch.tensor([[float(b)]]), scale)})


def test_factor_space_by_hand() -> None:
    # A = (1 + 3) / 2 = 2, B = (5 + 1) / 2 = 3, LoRA scale 2 kept: 2 * 3 * 2 = 12
    experts = {"x": one(1, 5, 2), "y": one(3, 1, 2)}
    merged = average(MergeInput(experts, "factors"), ConvexSettings()).state.modules[MODULE]
    assert (merged.a.item(), merged.b.item(), merged.scale) == (2, 3, 2)
    # scale 4 puts sqrt(4) on each factor: 2 * 6 * 4 = 48
    larger = average(MergeInput(experts, "factors"), ConvexSettings(scale=4.0)).state.modules[MODULE]
    assert (larger.a.item(), larger.b.item(), larger.delta().item()) == (4, 6, 48)


def test_delta_space_by_hand() -> None:
    # (2 * 5 * 1 + 1 * 1 * 3) / 2 = 6.5, of rank 1 + 1
    merged = average(MergeInput({"x": one(1, 5, 2), "y": one(3, 1, 1)}, "delta"), ConvexSettings()).state
    assert merged.modules[MODULE].delta().item() == pytest.approx(6.5)
    assert merged.modules[MODULE].rank == 2


def test_folding_scales_by_hand() -> None:
    # B folded: 2 * 5 = 10 and 1 * 1 = 1, mean 5.5; A mean 2; scale 1: 11
    inputs = MergeInput({"x": one(1, 5, 2), "y": one(3, 1, 1)}, "factors")
    merged = average(inputs, ConvexSettings(fold_scales=True)).state.modules[MODULE]
    assert (merged.a.item(), merged.b.item(), merged.scale) == (2, 5.5, 1)


def test_a_rank_limit_in_delta_space_truncates_and_is_noted() -> None:
    experts = make_experts(3, rank=2)
    exact = average(MergeInput(experts, "delta"), ConvexSettings()).state
    assert {f.rank for f in exact.modules.values()} == {6} and exact.notes == {}
    short = average(MergeInput(experts, "delta"), ConvexSettings(rank=3)).state
    assert {f.rank for f in short.modules.values()} == {3}
    target = dense(exact)
    residual = sum(float((dense(short)[m] - delta).square().sum()) for m, delta in target.items())
    norm = sum(float(delta.square().sum()) for delta in target.values())
    assert short.notes["svd_relative_residual"] == pytest.approx((residual / norm) ** 0.5, rel=1e-4)
    full_rank = average(MergeInput(experts, "delta"), ConvexSettings(rank=6)).state
    assert distance(full_rank, target) < 1e-6


def test_a_weighted_sum_in_delta_space_agrees_with_peft() -> None:
    experts = make_experts(2, layers=2, rank=2, scale=1.5)
    shares = {"expert2": 0.3, "expert1": 0.7}
    model = _peft_model(experts)
    model.base_model.add_weighted_adapter(list(shares), list(shares.values()), "both", combination_type="cat")
    weights = {
        name: {delta_name(module): torch.tensor(share) for module in modules_of(2)} for name, share in shares.items()
    }
    expected = {module: model.get_submodule(module).get_delta_weight("both").double() for module in modules_of(2)}
    assert distance(combine_deltas(experts, weights), expected) < 1e-6


def _peft_model(experts: dict[str, LoraState]) -> nn.Module:
    """A bare module tree under PEFT that carries the experts."""
    root = nn.Module()
    for name, (height, width) in modules_of(2).items():
        parent = root
        *path, leaf = name.removeprefix("base_model.model.").split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(leaf, nn.Linear(width, height, bias=False))
    targets = ["q_proj", "down_proj"]
    model = None
    for name, state in experts.items():
        config = LoraConfig(r=2, lora_alpha=3, target_modules=targets)
        if model is None:
            model = get_peft_model(root, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        for module, factors in state.modules.items():
            layer = model.get_submodule(module)
            layer.lora_A[name].weight.data.copy_(factors.a)
            layer.lora_B[name].weight.data.copy_(factors.b)
            assert layer.scaling[name] == factors.scale
    assert model is not None
    return model
