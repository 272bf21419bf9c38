"""Model Breadcrumbs against hand-worked numbers, a NumPy version of the paper, mergekit and PEFT."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.utils.merge_utils import magnitude_prune
from tests.merging.builders import dense, distance, make_experts
from tests.merging.drops import MODULE, experts_of, mergekit, random_input

from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.breadcrumbs import BreadcrumbsSettings, breadcrumbs, keep_middle
from esmerge.merging.methods.task_arithmetic import TaskArithmeticSettings, task_arithmetic

SHARES = st.sampled_from([(0.5, 0.25), (0.75, 0.125), (0.25, 0.0), (0.0, 0.125)])  # whole numbers of 16 entries
quick = settings(max_examples=20, deadline=None)


def test_keep_middle_by_hand() -> None:
    # of 5 entries the 2 smallest magnitudes (1, 2) and the largest (-9) go, in each row by itself
    values = torch.tensor([[1.0, -9, 3, 2, -4], [50, 10, 20, -30, 40]])
    assert keep_middle(values, beta=0.4, gamma=0.2).tolist() == [[0, 0, 3, 0, -4], [0, 0, 0, -30, 40]]


def test_both_ranges_by_hand() -> None:
    experts = experts_of(torch.tensor([[1.0, 2, 3, 4], [-5, 6, 7, 8]]), torch.tensor([[4.0, 3, 2, 1], [8, 7, 6, -5]]))
    inputs = MergeInput(experts, "delta")
    options = {"beta": 0.25, "gamma": 0.25, "scale": 2.0}
    # rows: x keeps (0, 2, 3, 0) and (0, 6, 7, 0); y keeps (0, 3, 2, 0) and (0, 7, 6, 0)
    rows = breadcrumbs(inputs, BreadcrumbsSettings(**options)).state.modules[MODULE]
    assert rows.tolist() == [[0, 10, 10, 0], [0, 26, 26, 0]]
    # matrix: of 8 entries the magnitudes 3, 4, 5, 6 stay
    matrix = breadcrumbs(inputs, BreadcrumbsSettings(**options, within="matrix")).state.modules[MODULE]
    assert matrix.tolist() == [[8, 6, 6, 8], [-10, 12, 12, -10]]


@quick
@given(st.integers(2, 5), SHARES, st.integers(0, 999))
def test_agrees_with_a_numpy_version_by_rank(count: int, shares: tuple[float, float], seed: int) -> None:
    inputs, deltas = random_input(count, seed)
    beta, gamma = shares
    expected = np.zeros(deltas.shape[1:])
    for delta in deltas.numpy():
        for row, values in enumerate(delta):
            low, high = np.quantile(np.abs(values), [beta, 1 - gamma], method="inverted_cdf")
            above_low = np.abs(values) > low if beta else np.full(len(values), True)
            expected[row] += np.where(above_low & (np.abs(values) <= high), values, 0)
    merged = breadcrumbs(inputs, BreadcrumbsSettings(beta=beta, gamma=gamma, scale=1.0)).state.modules[MODULE]
    torch.testing.assert_close(merged, torch.tensor(expected, dtype=torch.float32))


@quick
@given(st.integers(2, 5), SHARES, st.integers(0, 999))
def test_agrees_with_mergekit_within_the_matrix(count: int, shares: tuple[float, float], seed: int) -> None:
    inputs, deltas = random_input(count, seed)
    beta, gamma = shares
    expected = mergekit("breadcrumbs", deltas, normalize=False, density=1 - beta - gamma, gamma=gamma)
    config = BreadcrumbsSettings(beta=beta, gamma=gamma, scale=1.0, within="matrix")
    torch.testing.assert_close(breadcrumbs(inputs, config).state.modules[MODULE], expected)


@quick
@given(st.integers(2, 5), st.sampled_from([0.25, 0.5, 0.75]), st.integers(0, 999))
def test_without_gamma_it_is_pefts_magnitude_prune(count: int, beta: float, seed: int) -> None:
    inputs, deltas = random_input(count, seed)
    expected = magnitude_prune(list(deltas), torch.ones(count), 1 - beta)
    config = BreadcrumbsSettings(beta=beta, gamma=0.0, scale=1.0, within="matrix")
    torch.testing.assert_close(breadcrumbs(inputs, config).state.modules[MODULE], expected)


def test_without_masks_it_is_task_arithmetic() -> None:
    inputs = MergeInput(make_experts(3), "delta")
    merged = breadcrumbs(inputs, BreadcrumbsSettings(beta=0.0, gamma=0.0, scale=0.4)).state
    assert distance(merged, dense(task_arithmetic(inputs, TaskArithmeticSettings(scale=0.4)).state)) < 1e-5


def test_the_defaults_keep_what_the_authors_code_keeps() -> None:
    values = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    mask = keep_middle(values, BreadcrumbsSettings().beta, BreadcrumbsSettings().gamma) != 0
    assert mask.sum(dim=1).tolist() == [150, 150]  # 6 removed at the top, then the top 150 kept


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 99))
def test_no_row_is_emptied(count: int, beta: float, gamma: float, seed: int) -> None:
    if beta + gamma >= 1:
        beta, gamma = beta / 2, gamma / 2
    values = torch.randn(3, count, generator=torch.Generator().manual_seed(seed))
    assert (keep_middle(values, beta, gamma) != 0).any(dim=1).all()


@pytest.mark.parametrize(("beta", "gamma"), [(0.9, 0.1), (-0.1, 0.1), (0.5, -0.1), (0.5, float("nan"))])
def test_shares_that_leave_nothing_are_refused(beta: float, gamma: float) -> None:
    with pytest.raises(ConfigError, match=f"method.beta={beta} and method.gamma={gamma} must not be negative"):
        BreadcrumbsSettings(beta=beta, gamma=gamma)


def test_an_unknown_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="method.within='model' must be one of row, matrix"):
        BreadcrumbsSettings(within="model")
