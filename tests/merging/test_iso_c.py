"""Iso-C against a hand-worked matrix and the dense formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.merging.matrices import ROOT, assert_same, deltas_of, expert_specs, experts_of, random_experts, thin_svd

from esmerge.core.errors import ConfigError
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.iso_c import IsoCSettings, iso_c


def test_by_hand() -> None:
    # the sum has singular values 5 and 1 in the directions of the first two rows; the third row and the last two
    # columns are empty and stay empty
    experts = experts_of([[4, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 0]])
    merged = iso_c(MergeInput(experts, "delta"), IsoCSettings(scale=2.0)).state
    assert_same(merged, {f"{ROOT}.0.q": np.array([[6.0, 0, 0, 0], [0, -6, 0, 0], [0, 0, 0, 0]])})


@settings(max_examples=30, deadline=None)
@given(spec=expert_specs)
def test_agrees_with_the_dense_formula(spec: dict) -> None:
    experts = random_experts(**spec)
    expected = {}
    for module, deltas in deltas_of(experts).items():
        u, values, vt = thin_svd(sum(deltas))
        expected[module] = u @ vt * values.mean()
    assert_same(iso_c(MergeInput(experts, "delta"), IsoCSettings()).state, expected)


def test_at_full_rank_it_is_the_mean_over_the_whole_width() -> None:
    # where the ranks fill the weight, nothing is restricted and the authors' formula holds as it stands
    experts = random_experts([(4, 6)], [2, 3], 0)
    (module,) = deltas_of(experts)
    u, values, vt = np.linalg.svd(sum(deltas_of(experts)[module]), full_matrices=False)
    expected = u @ np.diag(np.full(4, values.mean())) @ vt
    assert_same(iso_c(MergeInput(experts, "delta"), IsoCSettings()).state, {module: expected})


def test_scale_is_positive() -> None:
    with pytest.raises(ConfigError, match="method.scale=0 must be greater than 0"):
        IsoCSettings(scale=0)
