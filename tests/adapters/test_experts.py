"""Experts are validated once: headers at the door, values in memory there too, values on disk when first read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.merging.builders import make_experts

from esmerge.adapters import lora
from esmerge.adapters.experts import ValidatedExperts, check_compatible, validate_experts
from esmerge.adapters.lora import LazyModules, LoraFactors, LoraState
from esmerge.adapters.peft_folder import open_adapter, save_adapter
from esmerge.core.errors import AdapterError

MODULE = "base_model.model.model.layers.1.mlp.down_proj"


def with_nan(state: LoraState, factor: str = "b") -> LoraState:
    """The same adapter with one NaN."""
    broken = getattr(state.modules[MODULE], factor).clone()
    broken[0, 0] = torch.nan
    return replace(state, modules={**state.modules, MODULE: replace(state.modules[MODULE], **{factor: broken})})


def on_disk(experts: dict[str, LoraState], folder: Path) -> dict[str, LoraState]:
    """The same adapters, written by something that looks at no value, and opened."""
    for name, state in experts.items():
        clean = {
            module: LoraFactors(torch.zeros_like(f.a), torch.zeros_like(f.b), f.scale)
            for module, f in state.modules.items()
        }
        save_adapter(LoraState(clean), folder / name)
        save_file(dict(state.tensors()), folder / name / "adapter_model.safetensors")
    return {name: open_adapter(folder / name, name) for name in experts}


def test_what_was_validated_passes_as_it_is() -> None:
    experts = make_experts(3)
    validated = validate_experts(experts, "factors")
    assert isinstance(validated, ValidatedExperts) and list(validated) == list(experts) and dict(validated) == experts
    assert (
        validate_experts(validated, "factors") is validated
        and validate_experts(validated, "factors", True) is validated
    )
    assert validate_experts(validated, "delta") is validated, "what fits in factor space fits in delta space"


def test_what_was_validated_on_easier_terms_is_looked_at_again() -> None:
    experts = make_experts(2)
    first = next(iter(experts))
    rescaled = {module: replace(f, scale=3.0) for module, f in experts[first].modules.items()}
    experts[first] = replace(experts[first], modules=rescaled)
    for space, fold_scales in (("delta", False), ("factors", True)):
        validated = validate_experts(experts, space, fold_scales)
        with pytest.raises(AdapterError, match="has LoRA scale 3"):
            validate_experts(validated, "factors")


@pytest.mark.parametrize("factor", ["a", "b"])
def test_values_in_memory_are_looked_through_at_the_door(factor: str) -> None:
    experts = make_experts(2)
    experts["expert1"] = with_nan(experts["expert1"], factor)
    message = f"adapter 'expert1' holds NaN or infinite values in {MODULE}.lora_{factor.upper()}.weight: retrain"
    with pytest.raises(AdapterError, match=message):
        validate_experts(experts, "delta")
    check_compatible(experts, "delta")  # looks at headers alone


@pytest.mark.parametrize("factor", ["a", "b"])
def test_values_on_disk_are_looked_through_when_they_are_read(factor: str, tmp_path: Path) -> None:
    experts = make_experts(2)
    experts["expert1"] = with_nan(experts["expert1"], factor)
    validated = validate_experts(on_disk(experts, tmp_path), "delta")
    validated["expert2"].materialize()
    message = f"adapter 'expert1' holds NaN or infinite values in {MODULE}.lora_{factor.upper()}.weight: retrain"
    for _ in range(2):  # the second reader is told as well
        with pytest.raises(AdapterError, match=message):
            validated["expert1"].materialize()


def test_no_value_is_looked_at_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = lora.all_finite
    monkeypatch.setattr(lora, "all_finite", lambda tensor: sizes.append(tensor.numel()) or original(tensor))
    entries = sum(tensor.numel() for state in make_experts(2).values() for tensor in state.tensors().values())
    opened = on_disk(make_experts(2), tmp_path)
    sizes.clear()
    validated = validate_experts(validate_experts(opened, "factors"), "delta")
    assert not sizes
    for _ in range(3):
        for state in validated.values():
            state.materialize()
    assert sum(sizes) == entries


def test_computed_adapters_are_looked_through_when_they_are_read() -> None:
    state = next(iter(make_experts(2).values()))
    broken = with_nan(state)
    lazy = LoraState(LazyModules(state.modules, lambda module: broken.modules[module], state.header))
    validated = validate_experts({"x": state, "y": lazy}, "factors")
    with pytest.raises(AdapterError, match=f"'y' holds NaN or infinite values in {MODULE}.lora_B"):
        validated["y"].materialize()
