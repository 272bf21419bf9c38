"""Dense updates: computed when they are read, checked when they are read, and saved as an adapter of full rank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esmerge.adapters.dense import DenseState, added, as_adapter, checked
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.core.errors import AdapterError
from esmerge.core.lazy import LazyMapping
from esmerge.model.attach import adapter_digest

ROOT = "base_model.model.model.layers"
SHAPES: dict[str, tuple[int, ...]] = {f"{ROOT}.0.mlp.up_proj": (6, 4), f"{ROOT}.1.mlp.down_proj": (4, 6)}
MODULES = list(SHAPES)


def updates(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {module: torch.randn(shape, generator=generator).to(dtype) for module, shape in SHAPES.items()}


def counted(tensors: Mapping[str, Tensor]) -> tuple[LazyMapping, list[str]]:
    """The updates on demand, and the list of what was computed so far."""
    calls: list[str] = []

    def compute(module: str) -> Tensor:
        calls.append(module)
        return tensors[module]

    return LazyMapping(list(tensors), compute), calls


def test_updates_are_computed_one_by_one_and_only_when_read() -> None:
    modules, calls = counted(updates())
    assert list(modules) == MODULES and len(modules) == 2
    assert MODULES[0] in modules and "other" not in modules
    assert calls == []
    items = iter(modules.items())
    next(items)
    assert calls == MODULES[:1]
    next(items)
    assert calls == MODULES


def test_updates_are_computed_again_unless_they_are_kept() -> None:
    modules, calls = counted(updates())
    state = DenseState(modules, "backbone", {"note": 1})
    assert torch.equal(state.modules[MODULES[0]], state.modules[MODULES[0]])
    assert len(calls) == 2
    materialized = state.materialize()
    assert len(calls) == 4
    assert torch.equal(materialized.modules[MODULES[1]], updates()[MODULES[1]]) and len(calls) == 4
    assert materialized.base_model == "backbone" and materialized.notes == {"note": 1}


def test_an_update_that_is_not_there_is_a_key_error() -> None:
    modules, calls = counted(updates())
    with pytest.raises(KeyError, match="other"):
        modules["other"]
    assert modules.get("other") is None and calls == []


def test_tensors_have_the_names_they_are_stored_by_and_are_as_lazy_as_the_modules() -> None:
    modules, calls = counted(updates())
    tensors = DenseState(modules).tensors()
    assert list(tensors) == [f"{module}.delta" for module in MODULES] and calls == []
    assert torch.equal(tensors[f"{MODULES[1]}.delta"], updates()[MODULES[1]]) and calls == MODULES[1:]


def test_the_digest_sees_values_and_not_whether_they_are_computed_on_demand() -> None:
    lazy, eager = DenseState(counted(updates())[0]), DenseState(updates())
    assert adapter_digest(lazy) == adapter_digest(eager)
    assert adapter_digest(DenseState({**updates(), MODULES[0]: torch.zeros(6, 4)})) != adapter_digest(eager)


def test_checked_updates_stay_lazy_and_unchanged() -> None:
    modules, calls = counted(updates())
    state = checked(DenseState(modules, "backbone"), "a merge", SHAPES)
    assert calls == [] and state.base_model == "backbone"
    assert all(torch.equal(state.modules[module], update) for module, update in updates().items())


def test_missing_and_added_modules_are_refused_at_once() -> None:
    modules, calls = counted({MODULES[0]: torch.zeros(6, 4), "stray": torch.zeros(1, 1)})
    with pytest.raises(AdapterError, match=f"a merge lacks {MODULES[1]} and adds stray"):
        checked(DenseState(modules), "a merge", SHAPES)
    assert calls == []


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(4, 6), torch.full((6, 4), torch.nan), torch.full((6, 4), torch.inf)],
    ids=["shape", "nan", "inf"],
)
def test_misshapen_and_infinite_updates_are_refused_when_they_are_read(wrong: Tensor) -> None:
    state = checked(DenseState({**updates(), MODULES[0]: wrong}), "a merge", SHAPES)
    assert torch.equal(state.modules[MODULES[1]], updates()[MODULES[1]])
    with pytest.raises(AdapterError, match=rf"a merge: the update of {MODULES[0]} is .* must be \(6, 4\)"):
        state.modules[MODULES[0]]


def test_a_sum_is_rounded_once() -> None:
    # bfloat16 has 8 bits: 1 + 0.75/128 rounds up to 1 + 1/128; an update rounded first to 0.5/128 would round down to 1
    weight, update = torch.ones(1, 1, dtype=torch.bfloat16), torch.full((1, 1), 0.75 / 128)
    total = added("m", weight, update)
    assert total.dtype == torch.bfloat16 and float(total) == 1 + 1 / 128
    assert added("m", weight, update, torch.float32).item() == 1 + 0.75 / 128


def test_a_sum_needs_equal_shapes_and_plain_weights() -> None:
    with pytest.raises(AdapterError, match=r"m: the update is \(2, 3\), the weight \(3, 2\)"):
        added("m", torch.zeros(3, 2), torch.zeros(2, 3))
    for dtype in (torch.int8, torch.uint8, torch.float8_e4m3fn):
        with pytest.raises(AdapterError, match=f"m: the weight is quantised .{dtype}"):
            added("m", torch.zeros(2, 3).to(dtype), torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_as_an_adapter_no_bit_is_lost(tmp_path: Path, dtype: torch.dtype) -> None:
    state = DenseState(counted(updates(dtype))[0], "org/backbone", {"note": 2})
    save_adapter(as_adapter(state), tmp_path / "merged")
    back = load_adapter(tmp_path / "merged", "merged")
    assert back.base_model == "org/backbone" and list(back.modules) == MODULES
    for module, update in updates(dtype).items():
        assert back.modules[module].rank == min(SHAPES[module])
        assert torch.equal(back.modules[module].delta(), update)
