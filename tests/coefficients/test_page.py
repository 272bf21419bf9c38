"""What is read on the page of formulas is what a merge runs: another formula there makes another merge."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.merging.builders import make_experts, make_input
from torch import Tensor

from esmerge.coefficients import formulas
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.run import merge

PAGE = {
    name: function
    for name, function in inspect.getmembers(formulas, inspect.isfunction)
    if function.__module__ == formulas.__name__ and not name.startswith("_")
}
LAYER_WISE = {
    "unit_directions", "standardise", "transport_costs", "sliced_wasserstein", "increments", "zscore", "layer_gains",
    "layer_coefficients",
}  # fmt: skip
USED = {"layer": LAYER_WISE, "element": {"zscore", "element_coefficients"}, "joint": set(PAGE)}


def merged(granularity: str) -> dict[str, Tensor]:
    inputs = make_input("es", "factors", granularity, make_experts(3))
    return dict(merge("es", inputs, ConvexSettings()).state.tensors())


def changed(formula: Callable[..., Any]) -> Callable[..., Any]:
    """The formula with positive noise on what it returns."""
    generator = torch.Generator().manual_seed(0)

    def noisy(value: Tensor) -> Tensor:
        return value + torch.rand(value.shape, generator=generator, dtype=value.dtype)

    def changed_formula(*args: Any, **kwargs: Any) -> Any:
        value = formula(*args, **kwargs)
        return tuple(map(noisy, value)) if isinstance(value, tuple) else noisy(value)

    return changed_formula


@pytest.mark.parametrize("granularity", USED)
@pytest.mark.parametrize("name", PAGE)
def test_a_merge_follows_the_formulas_that_its_granularity_has(
    name: str, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = merged(granularity)
    monkeypatch.setattr(formulas, name, changed(PAGE[name]))
    after = merged(granularity)
    unchanged = [torch.equal(before[key], after[key]) for key in before]
    assert not any(unchanged) if name in USED[granularity] else all(unchanged)
