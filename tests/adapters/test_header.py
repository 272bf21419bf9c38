"""What is known of an adapter without reading a factor, and that it is what reading finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.merging.builders import make_experts

from esmerge.adapters import reader
from esmerge.adapters.header import ModuleHeader
from esmerge.adapters.lora import LazyModules, LoraFactors, LoraState, delta_name
from esmerge.adapters.peft_folder import load_adapter, open_adapter, save_adapter
from esmerge.core.errors import AdapterError
from esmerge.core.lazy import LazyMapping
from esmerge.merging.api import MergeRequest
from esmerge.merging.methods.robust_merge import RobustMergeSettings
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine_deltas
from esmerge.merging.run import merge
from esmerge.specialists.families.custom.experts import completed

ROOT = "base_model.model.model.layers"


def unread(*_: Any, **__: Any) -> Any:
    raise AssertionError("a tensor was read")


def mixed() -> LoraState:
    """Modules of several ranks, number formats and scales, B wider than A."""
    return LoraState(
        {
            f"{ROOT}.0.q": LoraFactors(torch.ones(2, 3), torch.ones(5, 2).bfloat16(), 0.5),
            f"{ROOT}.1.q": LoraFactors(torch.ones(4, 3).half(), torch.ones(7, 4).half(), 2.0),
        }
    )


def test_by_hand() -> None:
    header = mixed().header
    assert header[f"{ROOT}.0.q"] == ModuleHeader(2, 3, 5, torch.float32, torch.bfloat16, 0.5)
    first, second = header.values()
    assert (first.shape, first.numel, first.dtype, first.nbytes) == ((5, 3), 15, torch.float32, 2 * 3 * 4 + 5 * 2 * 2)
    assert (second.factor_shape("A"), second.factor_shape("B"), second.dtype) == ((4, 3), (7, 4), torch.float16)


def test_a_folder_tells_its_header_and_no_tensor_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_adapter(mixed(), tmp_path / "adapter")
    monkeypatch.setattr(reader, "safe_open", unread)
    assert open_adapter(tmp_path / "adapter", "mine").header == mixed().header
    monkeypatch.undo()
    assert load_adapter(tmp_path / "adapter", "mine").header == mixed().header


def test_factors_yet_to_be_computed_have_a_header_only_if_one_is_given() -> None:
    state, header = mixed(), mixed().header
    assert LoraState(LazyModules(header, unread, header)).header == header
    for modules in (LazyModules(header, unread), LazyMapping(header, unread)):
        with pytest.raises(AdapterError, match="yet to be computed: materialize"):
            _ = LoraState(modules).header
    computed = LoraState(LazyModules(header, lambda module: state.modules[module]))
    assert computed.materialize().header == header
    assert state.passed_through(unread).header == header
    with pytest.raises(AdapterError, match="yet to be computed"):
        _ = computed.passed_through(unread).header


def test_stacked_updates_know_their_header_with_parts_that_weigh_nothing() -> None:
    experts = make_experts(3, rank=2, scale=2.0)
    experts["expert2"] = next(iter(make_experts(1, rank=3, scale=0.5).values()))
    for shares in ((0.0, 1.0, 2.0), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)):
        weights = {
            name: {delta_name(module): torch.tensor(share) for module in state.modules}
            for (name, state), share in zip(experts.items(), shares, strict=True)
        }
        merged = combine_deltas(experts, weights)
        assert isinstance(merged, LoraState) and merged.header == merged.materialize().header


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("average", ConvexSettings()),
        ("average", ConvexSettings(fold_scales=True)),
        ("robust_merge", RobustMergeSettings()),
    ],
)
def test_factor_merges_know_their_header_before_they_are_computed(name: str, settings: Any) -> None:
    experts = make_experts(3, dtype=torch.bfloat16)
    merged = merge(name, MergeRequest(experts, "factors"), settings).state
    assert isinstance(merged, LoraState) and isinstance(merged.modules, LazyModules)
    assert merged.header == merged.materialize().header


def test_completed_adapters_know_their_header() -> None:
    other = LoraState({f"{ROOT}.2.q": LoraFactors(torch.ones(1, 6).half(), torch.ones(4, 1), 3.0)})
    for state in completed({"a": mixed(), "b": other}, allow_partial=True).values():
        assert isinstance(state.modules, LazyModules)
        assert state.header == state.materialize().header
