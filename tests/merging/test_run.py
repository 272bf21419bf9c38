"""The way in: what it refuses before a merge runs and what it refuses afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from tests.merging.builders import make_experts, make_input

from esmerge.adapters import lora
from esmerge.adapters.experts import ValidatedExperts
from esmerge.adapters.lora import LoraState
from esmerge.core.errors import AdapterError, ConfigError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.registry import Entry
from esmerge.merging.api import MERGES, MergeConfig, Merged, MergeInput, MergeRequest
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.run import merge


@dataclass(frozen=True)
class Nothing(MergeConfig):
    """Settings of a merge that has none."""


def register(monkeypatch: pytest.MonkeyPatch, state: LoraState) -> None:
    """A merge called ``broken`` that returns ``state`` whatever it is given."""
    MERGES.names()
    info = MergeInfo("Broken", "nowhere", MethodKind.MERGE, ("delta",))
    entry = Entry("broken", lambda inputs, settings: Merged(state), Nothing, info)
    monkeypatch.setitem(MERGES._entries, "broken", entry)


def test_unknown_merges_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown merge 'tise': expected one of .*ties"):
        merge("tise", MergeInput(make_experts(2), "delta"), Nothing())


def test_settings_of_another_merge_are_refused() -> None:
    with pytest.raises(ConfigError, match="'ties' takes TiesSettings, got ConvexSettings"):
        merge("ties", MergeInput(make_experts(2), "delta"), ConvexSettings())


def test_a_merge_by_signals_needs_them() -> None:
    with pytest.raises(ConfigError, match="'es' needs a probe's signals and a granularity"):
        merge("es", MergeInput(make_experts(2), "factors"), ConvexSettings())


def test_a_granularity_that_a_merge_lacks_is_refused() -> None:
    inputs = make_input("es", "factors", "layer", make_experts(2))
    with pytest.raises(ConfigError, match="no granularity=neuron: it has layer, element, joint"):
        merge("es", replace(inputs, granularity=replace(inputs.granularity, name="neuron")), ConvexSettings())


def test_an_incomplete_result_is_refused_with_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = make_experts(2)
    modules = dict(experts["expert1"].modules)
    missing = next(iter(modules))
    register(monkeypatch, LoraState({**{m: f for m, f in modules.items() if m != missing}, "stray": modules[missing]}))
    with pytest.raises(AdapterError, match=f"'broken' left modules unmerged: {missing}; and added stray"):
        merge("broken", MergeInput(experts, "delta"), Nothing())


def test_a_result_that_is_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = make_experts(2)
    modules = dict(experts["expert1"].modules)
    name, factors = next(iter(modules.items()))
    register(monkeypatch, LoraState({**modules, name: replace(factors, b=torch.full_like(factors.b, torch.inf))}))
    with pytest.raises(AdapterError, match=f"'merged by broken' holds NaN or infinite values in {name}.lora_B"):
        merge("broken", MergeInput(experts, "delta"), Nothing()).state.materialize()
    wide = LoraState({**modules, name: replace(factors, a=torch.cat([factors.a, factors.a], dim=1))})
    register(monkeypatch, wide)
    with pytest.raises(AdapterError, match=rf"'broken' left {name} misshapen: \(.*\), expected \("):
        merge("broken", MergeInput(experts, "delta"), Nothing()).state.materialize()


def test_a_merge_is_given_experts_that_were_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    experts, calls, sizes = make_experts(3), [], []
    register(monkeypatch, experts["expert1"])
    entry = MERGES.get("broken")
    monkeypatch.setitem(
        MERGES._entries,
        "broken",
        replace(entry, function=lambda inputs, settings: calls.append(inputs) or Merged(experts["expert1"])),
    )
    original = lora.all_finite
    monkeypatch.setattr(lora, "all_finite", lambda tensor: sizes.append(tensor.numel()) or original(tensor))
    request = MergeRequest(experts, "delta", seed=3)
    merge("broken", request, Nothing())
    assert isinstance(calls[0], MergeInput) and isinstance(calls[0].experts, ValidatedExperts) and calls[0].seed == 3
    assert dict(calls[0].experts) == experts
    assert sum(sizes) == sum(tensor.numel() for state in experts.values() for tensor in state.tensors().values())
    merge("broken", calls[0], Nothing())
    assert calls[1].experts is calls[0].experts, "what was validated is not looked at again"


@pytest.mark.parametrize("changes", [{"scale": 0}, {"rank": 0}, {"rank": "full"}, {"rank": True}, {"rank": -3}])
def test_settings_out_of_range_are_refused(changes: dict) -> None:
    ((field, value),) = changes.items()
    with pytest.raises(ConfigError, match=f"method.{field}={value!r} must be"):
        ConvexSettings(**changes)
