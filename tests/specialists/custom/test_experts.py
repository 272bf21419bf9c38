"""Adapters of the user's own: read on demand, held against each other, completed with zeros."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.errors import AdapterError
from esmerge.core.lazy import LazyMapping
from esmerge.specialists.families.custom.base_model import is_base_model, same_weights
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
    assert is_base_model(name, other) == is_base_model(other, name) == same


def checkpoint(folder: Path, *shards: dict[str, torch.Tensor]) -> str:
    folder.mkdir(parents=True)
    for number, tensors in enumerate(shards):
        save_file(tensors, folder / f"model-{number}.safetensors")
    return str(folder)


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layers.{number}.weight": torch.randn(5, 4, generator=generator) for number in range(40)}


def test_weights_of_folders_decide_whether_they_are_one_model(tmp_path: Path) -> None:
    first, whole = checkpoint(tmp_path / "a" / "checkpoint-500", weights()), weights()
    halves = [dict(list(whole.items())[:7]), dict(list(whole.items())[7:])]
    assert is_base_model(first, checkpoint(tmp_path / "sharded", *halves))
    assert is_base_model(first, checkpoint(tmp_path / "copy", {key: value.bfloat16() for key, value in whole.items()}))
    other = checkpoint(tmp_path / "b" / "checkpoint-500", weights(seed=1))
    (Path(other) / "config.json").write_text(json.dumps({"_name_or_path": first}))
    assert not is_base_model(first, other)


def test_every_kind_of_tensor_is_compared_whatever_the_depth(tmp_path: Path) -> None:
    names = [
        f"layers.{layer}.{kind}" for layer in range(32) for kind in ("q", "k", "v", "o", "gate", "up", "down", "a", "b")
    ]
    tensors = {name: torch.ones(2, 2) for name in [*names, "embed", "head", "norm"]}
    first = checkpoint(tmp_path / "a", tensors)
    for kind in ("q", "v", "gate", "down"):
        others = {name: tensor + 1 if name.endswith(f".{kind}") else tensor for name, tensor in tensors.items()}
        assert same_weights(Path(first), Path(checkpoint(tmp_path / kind, others))) is False


def test_names_decide_where_there_are_no_weights_to_compare(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path / "a" / "model", weights()), checkpoint(tmp_path / "b" / "model", weights(1))
    (tmp_path / "b" / "model" / "model-0.safetensors").write_bytes(b"short")  # whoever loads it says so
    assert same_weights(Path(first), Path(second)) is None and is_base_model(first, second)
    assert not is_base_model(first, checkpoint(tmp_path / "other"))


@pytest.mark.parametrize("change", [lambda tensor: tensor + 0.001, lambda tensor: tensor[:, :3].contiguous()])
def test_a_later_checkpoint_has_other_weights(change: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "a", weights())
    second = checkpoint(tmp_path / "b", {name: change(tensor) for name, tensor in weights().items()})
    assert same_weights(Path(first), Path(second)) is False
