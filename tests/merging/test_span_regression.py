"""Span regression against NumPy's least squares on augmented rows, which forms neither a Gram matrix nor a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.merging.builders import dense, distance, make_experts
from torch.utils._python_dispatch import TorchDispatchMode

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.statistics.span_inputs import SpanInputsSettings, text_name
from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.average import average
from esmerge.merging.methods.span_regression import (
    SpanRegressionSettings,
    by_gram,
    by_kernel,
    regress,
    span_regression,
)
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.testing import check_merge

MODULE = "base_model.model.model.layers.0.q_proj"
Rows = Mapping[str, Mapping[str, np.ndarray]]


def merged(experts: Mapping[str, LoraState], rows: Rows, **changes: object) -> dict[str, np.ndarray]:
    statistics = {name: {key: torch.tensor(z) for key, z in tensors.items()} for name, tensors in rows.items()}
    inputs = MergeInput(experts, "delta", statistics={"span_inputs": statistics})
    state = span_regression(inputs, SpanRegressionSettings(**changes)).state  # type: ignore[arg-type]
    return {module: update.numpy() for module, update in dense(state).items()}


def draw(experts: Mapping[str, LoraState], tokens: int, seed: int = 0, text: int = 0) -> dict[str, dict]:
    """Rows of every expert and module; channels and experts differ in size."""
    rng = np.random.default_rng(seed)
    rows: dict[str, dict] = {}
    for number, (name, state) in enumerate(experts.items()):
        rows[name] = {}
        for module, factors in state.modules.items():
            sizes = rng.uniform(0.2, 2.0, size=factors.a.shape[1]) * (1 + number)
            rows[name][module] = rng.normal(size=(tokens, len(sizes))) * sizes
            if text:
                rows[name][text_name(module)] = rng.normal(size=(text, len(sizes)))
    return rows


def expected(experts: Mapping[str, LoraState], rows: Rows, module: str, ridge: float, match: bool) -> np.ndarray:
    """``lstsq`` on ``[Z_i; √c_i I]``, then the ratio of the responses' norms at the spans."""
    updates = {name: dense(state)[module].numpy() for name, state in experts.items()}
    design, targets = [], []
    for name, update in updates.items():
        z = np.concatenate([x for key, x in rows[name].items() if key in (module, text_name(module))])
        for block in (z, np.sqrt(ridge * np.square(z).sum(axis=0).mean()) * np.eye(z.shape[1])):
            design.append(block)
            targets.append(block @ update.T)
    solution = np.linalg.lstsq(np.concatenate(design), np.concatenate(targets), rcond=None)[0].T
    if not match:
        return solution
    responses = sum(np.square(update @ rows[name][module].T).sum() for name, update in updates.items())
    merged_responses = sum(np.square(solution @ rows[name][module].T).sum() for name in updates)
    return solution * np.sqrt(responses / merged_responses)


def assert_near(value: np.ndarray, reference: np.ndarray, share: float = 1e-5) -> None:
    np.testing.assert_allclose(value, reference, rtol=0, atol=share * np.abs(reference).max())


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 5),
    tokens=st.sampled_from([1, 2, 30]),  # fewer than channels: the kernel form; more: the Gram form
    text=st.sampled_from([0, 2]),
    ridge=st.sampled_from([0.01, 0.1, 1.0]),
    match=st.booleans(),
    seed=st.integers(0, 999),
)
def test_agrees_with_least_squares_in_numpy(
    count: int, tokens: int, text: int, ridge: float, match: bool, seed: int
) -> None:
    experts = make_experts(count, seed=seed)
    rows = draw(experts, tokens, seed, text)
    updates = merged(experts, rows, ridge=ridge, match="module" if match else "none")
    for module, update in updates.items():
        assert_near(update, expected(experts, rows, module, ridge, match))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 12), st.sampled_from([1e-3, 0.1]), st.integers(0, 999))
def test_kernel_and_gram_form_agree(count: int, tokens: int, ridge: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(2, 40, generator=generator).double() for _ in range(count)]
    rows = [torch.randn(tokens, 40, generator=generator).double() for _ in range(count)]
    ridges = torch.stack([ridge * z.square().sum(dim=0).mean() for z in rows])
    for gram, kernel in zip(by_gram(factors, rows, ridges), by_kernel(factors, rows, ridges), strict=True):
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
    factors = [torch.randn(2, width) for _ in range(2)]
    with Largest() as largest:
        projected = regress(factors, [torch.randn(6, width).double() for _ in range(2)], 0.1)
    assert [tuple(a.shape) for a in projected] == [(2, width)] * 2
    assert largest.entries <= 12 * width


def test_every_invariant_of_a_merge() -> None:
    check_merge("span_regression")


@pytest.mark.parametrize("tokens", [1, 40])
def test_one_expert_alone_comes_back(tokens: int) -> None:
    experts = make_experts(1)
    for module, update in merged(experts, draw(experts, tokens)).items():
        assert_near(update, dense(experts["expert1"])[module].numpy())


def test_the_experts_order_does_not_matter() -> None:
    experts = make_experts(4)
    rows = draw(experts, 2)
    moved = {name: experts[name] for name in sorted(experts)}
    assert list(moved) != list(experts)
    updates = merged(experts, rows)
    for module, update in merged(moved, rows).items():
        assert_near(update, updates[module])


def test_the_unit_of_the_inputs_does_not_matter() -> None:
    experts = make_experts(3)
    rows = draw(experts, 3, text=2)
    larger = {name: {key: 1000 * z for key, z in tensors.items()} for name, tensors in rows.items()}
    updates = merged(experts, rows)
    for module, update in merged(experts, larger).items():
        assert_near(update, updates[module])


OPPOSED = {  # they answer the same inputs with opposite signs in one output and alike in the other
    "x": LoraState({MODULE: LoraFactors(torch.eye(2), torch.tensor([[3.0, 0], [0, 4]]), 1.0)}),
    "y": LoraState({MODULE: LoraFactors(torch.eye(2), torch.tensor([[-3.0, 0], [0, 4]]), 1.0)}),
}


@pytest.mark.parametrize(("match", "size"), [("none", 4.0), ("module", 5.0), ("expert", 5.0)])  # 5 = √(3² + 4²)
def test_the_scale_by_hand(match: str, size: float) -> None:
    rows = {name: {MODULE: np.eye(2)} for name in OPPOSED}
    assert_near(merged(OPPOSED, rows, match=match)[MODULE], np.array([[0.0, 0], [0, size]]))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(0, 999))
def test_every_expert_keeps_the_norm_of_its_responses(count: int, seed: int) -> None:
    # spans of 3 directions each, which overlap a little
    rng, draws = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    factors = [
        LoraFactors(torch.randn(2, 16, generator=draws), torch.randn(5, 2, generator=draws), 2.0) for _ in range(count)
    ]
    experts = {f"e{number}": LoraState({MODULE: part}) for number, part in enumerate(factors)}
    basis = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    spans = [basis[3 * k : 3 * k + 3] + 0.05 * rng.normal(size=(3, 16)) for k in range(count)]
    rows = {name: {MODULE: z} for name, z in zip(experts, spans, strict=True)}
    update = merged(experts, rows, match="expert")[MODULE]
    for (name, state), z in zip(experts.items(), spans, strict=True):
        response = np.linalg.norm(dense(state)[MODULE].numpy() @ z.T)
        assert np.linalg.norm(update @ z.T) == pytest.approx(response, rel=1e-3), name


def test_an_expert_that_others_drown_out_is_at_most_halved_against_the_module() -> None:
    # the small expert's span lies within the large one's, whose answer there is a hundred times as large
    small = LoraState({MODULE: LoraFactors(torch.eye(2)[:1], torch.tensor([[0.0], [1.0]]), 1.0)})
    large = LoraState({MODULE: LoraFactors(torch.eye(2)[:1], torch.tensor([[100.0], [0.0]]), 1.0)})
    rows = {"small": {MODULE: np.eye(2)[:1]}, "large": {MODULE: np.eye(2)[:1]}}
    update = merged({"small": small, "large": large}, rows, match="expert")[MODULE]
    whole = merged({"small": small, "large": large}, rows, match="module")[MODULE]
    assert update[1, 0] == pytest.approx(whole[1, 0] / 2)


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
    update = merged(wide, rows, ridge=1e-7, match="none")[MODULE]
    for name, state in wide.items():
        z = rows[name][MODULE]
        assert_near(update @ z.T, dense(state)[MODULE].numpy() @ z.T, 1e-4)


def test_text_pulls_to_the_mean_where_all_read_the_same() -> None:
    experts = make_experts(2)
    text = np.random.default_rng(3).normal(size=(40, 9))
    module = "base_model.model.model.layers.1.mlp.down_proj"
    few = {name: LoraState({module: state.modules[module]}) for name, state in experts.items()}
    rows = {name: {module: 1e-3 * np.eye(1, 9, k), text_name(module): text} for k, name in enumerate(few)}
    mean = sum(dense(state)[module].numpy() for state in few.values()) / 2
    assert_near(merged(few, rows, match="none")[module], mean, 1e-4)


def test_silent_spans_give_the_mean() -> None:
    experts = make_experts(3)
    rows = {name: {m: np.zeros((2, f.a.shape[1])) for m, f in s.modules.items()} for name, s in experts.items()}
    mean = dense(average(MergeInput(experts, "delta"), ConvexSettings()).state)
    inputs = {name: {m: torch.tensor(z) for m, z in tensors.items()} for name, tensors in rows.items()}
    state = span_regression(
        MergeInput(experts, "delta", statistics={"span_inputs": inputs}), SpanRegressionSettings()
    ).state
    assert distance(state, mean) < 1e-5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ridge": 0.0}, r"method.ridge=0.0: expected a number above 0"),
        ({"match": "size"}, r"method.match='size' must be one of expert, module, none"),
        ({"scale": -1.0}, r"method.scale=-1.0 must be greater than 0"),
    ],
)
def test_settings_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpanRegressionSettings(**changes)  # type: ignore[arg-type]


def test_the_spans_settings_reach_the_measure() -> None:
    spans = SpanInputsSettings(limit=7, text_weight=0.3)
    assert SpanRegressionSettings(spans=spans).statistics_settings() == {"span_inputs": spans}
