"""Adapters of the user's own: read on demand, held against each other, completed with zeros."""

from __future__ import annotations

import pytest
import torch

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import AdapterError
from esmerge.core.lazy import LazyMapping
from esmerge.specialists.families.custom.backbone import same_model
from esmerge.specialists.families.custom.experts import completed, missing_modules

ROOT = "base_model.model.model.layers"


def state(modules: list[str], rank: int = 2, scale: float = 1.0) -> LoraState:
    return LoraState({f"{ROOT}.{m}": LoraFactors(torch.ones(rank, 3), torch.ones(4, rank), scale) for m in modules})


def test_missing_modules_become_zeros_of_the_rank_and_scale_of_who_has_them() -> None:
    experts = {"a": state(["0.q", "10.q"]), "b": state(["0.q", "2.q"], rank=3, scale=2.0)}
    assert missing_modules(experts) == {"a": [f"{ROOT}.2.q"], "b": [f"{ROOT}.10.q"]}
    completed_experts = completed(experts, allow_partial=True)
    assert all(
        list(expert.modules) == [f"{ROOT}.{m}" for m in ("0.q", "2.q", "10.q")] for expert in completed_experts.values()
    )
    factors = completed_experts["a"].modules[f"{ROOT}.2.q"]
    assert factors.a.shape == (3, 3) and factors.scale == 2 and not factors.a.any() and not factors.b.any()
    assert completed_experts["b"].modules[f"{ROOT}.0.q"] is experts["b"].modules[f"{ROOT}.0.q"]
    with pytest.raises(AdapterError, match=r"'a' lacks .*layers.2.q; 'b' lacks .*layers.10.q. Say allow_partial=true"):
        completed(experts, allow_partial=False)


def test_whole_experts_stay_as_they_are_and_nothing_is_read() -> None:
    def unread(name: str) -> LoraFactors:
        raise AssertionError(name)

    experts = {name: LoraState(LazyMapping([f"{ROOT}.0.q"], unread)) for name in "ab"}
    assert completed(experts, allow_partial=False) == experts


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("meta-llama/Llama-3.1-8B", "/models/llama-3.1-8b", True),
        ("meta-llama/Llama-3.1-8B", "/hub/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f249a1", True),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", False),
        ("meta-llama/Llama-3.1-8B", "/models/Llama-3.1-70B", False),
    ],
)
def test_names_of_one_model(name: str, other: str, same: bool) -> None:
    assert same_model(name, other) == same_model(other, name) == same
