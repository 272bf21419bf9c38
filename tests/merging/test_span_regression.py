"""Span regression against NumPy's least squares on augmented rows, which forms neither a Gram matrix nor a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense, make_experts
from torch.utils._python_dispatch import TorchDispatchMode

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.statistics.span_inputs import SpanInputsSettings
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.core_space import CoreSpaceSettings, core_space
from esmerge.merging.methods.span_regression import (
    PRIORS,
    SpanRegressionSettings,
    by_gram,
    by_kernel,
    regress,
    span_regression,
)
from esmerge.merging.methods.task_arithmetic import TaskArithmeticSettings, task_arithmetic
from esmerge.testing import check_merge

MODULE = "base_model.model.model.layers.0.q_proj"
Rows = Mapping[str, Mapping[str, np.ndarray]]


def merged(experts: Mapping[str, LoraState], rows: Rows, **changes: object) -> dict[str, np.ndarray]:
    statistics = {name: {key: torch.tensor(z) for key, z in tensors.items()} for name, tensors in rows.items()}
    inputs = MergeInput(experts, "delta", statistics={"span_inputs": statistics})
    state = span_regression(inputs, SpanRegressionSettings(**{"scale": 1.0, **changes})).state  # type: ignore[arg-type]
    return {module: update.numpy() for module, update in dense(state).items()}


def draw(experts: Mapping[str, LoraState], tokens: int, seed: int = 0) -> dict[str, dict]:
    """Rows of every expert and module; channels and experts differ in size."""
    rng = np.random.default_rng(seed)
    rows: dict[str, dict] = {}
    for number, (name, state) in enumerate(experts.items()):
        rows[name] = {}
        for module, factors in state.modules.items():
            sizes = rng.uniform(0.2, 2.0, size=factors.a.shape[1]) * (1 + number)
            rows[name][module] = rng.normal(size=(tokens, len(sizes))) * sizes
    return rows


def polar(columns: np.ndarray) -> np.ndarray:
    """The nearest matrix with orthonormal columns."""
    u, values, vt = np.linalg.svd(columns, full_matrices=False)
    return (u * (values > 1e-6 * values.max())) @ vt


def prior_of(updates: Iterable[np.ndarray], prior: str) -> np.ndarray:
    """The sum, or the sum of the experts' singular triplets at places that are orthonormal together."""
    if prior == "sum":
        return np.sum(list(updates), axis=0)
    triplets = [np.linalg.svd(update, full_matrices=False) for update in updates]
    nonzero = [(u[:, s > 1e-6 * s[0]], s[s > 1e-6 * s[0]], vt[s > 1e-6 * s[0]]) for u, s, vt in triplets]
    lefts, values, rights = zip(*nonzero, strict=True)
    return polar(np.concatenate(lefts, 1)) * np.concatenate(values) @ polar(np.concatenate(rights).T).T


def expected(
    experts: Mapping[str, LoraState], rows: Rows, module: str, ridge: float, outside: float, prior: str
) -> np.ndarray:
    """``lstsq`` on the rows of all ``Z_i`` and of ``√c I``."""
    updates = {name: dense(state)[module].double().numpy() for name, state in experts.items()}
    design = [rows[name][module] for name in updates]
    targets = [z @ update.T for z, update in zip(design, updates.values(), strict=True)]
    root = np.sqrt(ridge * sum(np.square(z).sum(axis=0).mean() for z in design))
    design.append(root * np.eye(design[0].shape[1]))
    targets.append(root * outside * prior_of(updates.values(), prior).T)
    return np.linalg.lstsq(np.concatenate(design), np.concatenate(targets), rcond=None)[0].T


def assert_near(value: np.ndarray, reference: np.ndarray, share: float = 1e-5) -> None:
    np.testing.assert_allclose(value, reference, rtol=0, atol=share * np.abs(reference).max())


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 5),
    tokens=st.sampled_from([1, 2, 30]),  # fewer than channels: the kernel form; more: the Gram form
    ridge=st.sampled_from([0.01, 0.1, 1.0]),
    outside=st.sampled_from([0.0, 0.4, 1.0]),
    prior=st.sampled_from(["sum", "decorrelated"]),
    seed=st.integers(0, 999),
)
def test_agrees_with_least_squares_in_numpy(
    count: int, tokens: int, ridge: float, outside: float, prior: str, seed: int
) -> None:
    experts = make_experts(count, seed=seed)
    rows = draw(experts, tokens, seed)
    for module, update in merged(experts, rows, ridge=ridge, outside=outside, prior=prior).items():
        assert_near(update, expected(experts, rows, module, ridge, outside, prior), 1e-4)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 12), st.sampled_from([1e-3, 0.1]), st.sampled_from([0.3, 1]), st.integers(0, 999)
)
def test_kernel_and_gram_form_agree(count: int, tokens: int, ridge: float, outside: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(count, 2 * count, 40, generator=generator).double()
    prior = outside * torch.randn(2 * count, 40, generator=generator).double()
    rows = [torch.randn(tokens, 40, generator=generator).double() for _ in range(count)]
    penalty = ridge * torch.stack([z.square().sum(dim=0).mean() for z in rows]).sum()
    gram, kernel = (form(updates, rows, penalty, prior) for form in (by_gram, by_kernel))
    torch.testing.assert_close(kernel, gram, rtol=0, atol=1e-5 * float(gram.abs().max()))


class Largest(TorchDispatchMode):
    """Remembers the number of entries of the largest tensor that was made."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        tensors: Iterable[object] = result if isinstance(result, tuple | list) else (result,)
        self.entries = max([self.entries, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
        return result


def test_no_gram_matrix_is_formed_where_channels_outnumber_tokens() -> None:
    width = 14336
    updates = torch.randn(2, 4, width).double()
    with Largest() as largest:
        right = regress(updates, [torch.randn(6, width).double() for _ in range(2)], 0.1, updates.sum(dim=0))
    assert tuple(right.shape) == (4, width) and largest.entries <= 12 * width


def test_every_invariant_of_a_merge() -> None:
    check_merge("span_regression")


@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("prior", PRIORS)
def test_one_expert_alone_comes_back(tokens: int, prior: str) -> None:
    experts = make_experts(1)
    for module, update in merged(experts, draw(experts, tokens), prior=prior).items():
        assert_near(update, dense(experts["expert1"])[module].numpy())


def test_experts_that_agree_count_once() -> None:
    """Two of the same leave what they are: the sum would double it where no token has been."""
    expert = make_experts(1)["expert1"]
    experts = {"x": expert, "y": expert}
    for module, update in merged(experts, draw(experts, 2)).items():
        assert_near(update, dense(expert)[module].numpy())


def test_the_experts_order_does_not_matter() -> None:
    experts = make_experts(4)
    rows = draw(experts, 2)
    reordered = {name: experts[name] for name in sorted(experts)}
    assert list(reordered) != list(experts)
    updates = merged(experts, rows)
    for module, update in merged(reordered, rows).items():
        assert_near(update, updates[module])


def test_the_unit_of_the_inputs_does_not_matter() -> None:
    experts = make_experts(3)
    rows = draw(experts, 3)
    larger = {name: {key: 1000 * z for key, z in tensors.items()} for name, tensors in rows.items()}
    updates = merged(experts, rows)
    for module, update in merged(experts, larger).items():
        assert_near(update, updates[module])


def test_each_expert_is_heard_on_its_spans() -> None:
    # spans that share no direction: with hardly a ridge every expert's responses come back whole
    draws = torch.Generator().manual_seed(0)
    wide = {
        name: LoraState(
            {MODULE: LoraFactors(torch.randn(2, 6, generator=draws), torch.randn(3, 2, generator=draws), 1.0)}
        )
        for name in ("x", "y")
    }
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    rows = {name: {MODULE: part} for name, part in zip(wide, (basis[:2], basis[2:4]), strict=True)}
    update = merged(wide, rows, ridge=1e-7)[MODULE]
    for name, state in wide.items():
        z = rows[name][MODULE]
        assert_near(update @ z.T, dense(state)[MODULE].numpy() @ z.T, 1e-4)


@pytest.mark.parametrize("prior", PRIORS)
def test_hardly_a_span_leaves_the_prior(prior: str) -> None:
    """A ridge far above every Gram matrix leaves task arithmetic, or Core Space as its authors run it."""
    experts = make_experts(3)
    other: dict[str, Any] = {
        "sum": (task_arithmetic, TaskArithmeticSettings(scale=1.0)),
        "decorrelated": (core_space, CoreSpaceSettings()),
    }
    merge, published = other[prior]
    reference = dense(merge(MergeInput(experts, "delta"), published).state)
    for module, update in merged(experts, draw(experts, 2), ridge=1e9, prior=prior).items():
        assert_near(update, reference[module].numpy())


@pytest.mark.parametrize("outside", [1.0, 1 / 3])
def test_silent_spans_give_a_share_of_the_prior(outside: float) -> None:
    experts = make_experts(3)
    rows = {name: {m: np.zeros((2, f.a.shape[1])) for m, f in s.modules.items()} for name, s in experts.items()}
    for module, update in merged(experts, rows, outside=outside, prior="sum").items():
        total = sum(dense(state)[module].numpy() for state in experts.values())
        assert_near(update, outside * total)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ridge": 0.0}, r"method.ridge=0.0: expected a number from 1e-08"),
        ({"outside": -1.0}, r"method.outside=-1"),
        ({"prior": "mean"}, r"method.prior='mean' must be one of sum, decorrelated"),
        ({"scale": -1.0}, r"method.scale=-1.0 must be greater than 0"),
    ],
)
def test_settings_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpanRegressionSettings(**changes)  # type: ignore[arg-type]


def test_the_spans_settings_reach_the_measure() -> None:
    spans = SpanInputsSettings(limit=7)
    assert SpanRegressionSettings(spans=spans).statistics_settings() == {"span_inputs": spans}
