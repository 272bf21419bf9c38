"""Responses, scores, coefficients and merges against what the authors' functions made of the same recorded experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.coefficients.recorded import BATCH, EXPERTS, LAYERS, prompts, recorded, specialists
from torch import Tensor

from esmerge.adapters.experts import validate_experts
from esmerge.adapters.lora import LoraState
from esmerge.coefficients.authors import ELEMENT_FILE, LAYER_FILE, read_authors, write_authors
from esmerge.coefficients.estimation import coefficients
from esmerge.coefficients.types import Coefficients, ESConfig, Signals
from esmerge.merging.api import MergeInput
from esmerge.merging.ops.es_family import merge_by
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import tensor_shapes
from esmerge.probe.responses import collect
from esmerge.specialists.specialists import Specialists

DIRECTIONS = 50_000
ROLES = {expert: expert for expert in EXPERTS}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return recorded()


@pytest.fixture(scope="module")
def three(golden: dict[str, Any]) -> Specialists:
    return specialists(golden["inputs"])


@pytest.fixture(scope="module")
def signals(three: Specialists) -> Signals:
    return collect(three, prompts(), BATCH, "factors")


def estimated(signals: Signals, three: Specialists, name: str) -> Coefficients:
    shapes = tensor_shapes(three.adapters["mol"], "factors")
    return coefficients(signals, ESConfig(name, projections=DIRECTIONS, resamples=0), shapes, seed=0)


def test_layer_coefficients_agree_within_three_standard_errors(
    golden: dict[str, Any], three: Specialists, signals: Signals
) -> None:
    estimate = estimated(signals, three, "layer")
    for row, expert in enumerate(EXPERTS):
        error = (estimate.errors["directions"][expert] ** 2 + golden["alpha"]["errors"][row] ** 2).sqrt()
        gap = (estimate.layer[expert] - golden["alpha"]["values"][row]).abs()
        assert gap.shape == (LAYERS,) and float(error.max()) < 0.03
        assert bool((gap <= 3 * error).all())


def test_scores_are_theirs(golden: dict[str, Any], signals: Signals) -> None:
    for expert, scores in golden["scores"].items():
        assert scores.keys() == signals.scores[expert].keys()
        for name, value in scores.items():
            torch.testing.assert_close(signals.scores[expert][name], value, rtol=1e-4, atol=1e-5 * float(value.max()))


def test_element_coefficients_are_theirs(golden: dict[str, Any], three: Specialists, signals: Signals) -> None:
    estimate = estimated(signals, three, "element")
    for expert, beta in golden["beta"].items():
        for name, value in beta.items():
            torch.testing.assert_close(estimate.elements[expert][name], value, rtol=0, atol=1e-3)


@pytest.mark.parametrize("granularity", ["layer", "element", "joint"])
def test_merged_factors_are_theirs_given_the_same_coefficients(
    granularity: str, golden: dict[str, Any], three: Specialists
) -> None:
    merged = factors(three, of_golden(golden, granularity), granularity)
    assert merged.keys() == golden["merged"][granularity].keys()
    for name, value in golden["merged"][granularity].items():
        torch.testing.assert_close(merged[name], value, rtol=0, atol=1e-6)


def test_files_of_both_coefficients_make_the_same_merge(
    golden: dict[str, Any], three: Specialists, tmp_path: Path
) -> None:
    write_authors(of_golden(golden, "joint"), ROLES, tmp_path)
    shapes = tensor_shapes(three.adapters["mol"], "factors")
    joint = read_authors(tmp_path / LAYER_FILE, tmp_path / ELEMENT_FILE, ROLES, shapes, "joint")
    for name, value in factors(three, joint, "joint").items():
        torch.testing.assert_close(value, golden["merged"]["joint"][name], rtol=0, atol=1e-6)


def of_golden(golden: dict[str, Any], granularity: str) -> Coefficients:
    """The coefficients that their merge was given."""
    return Coefficients(golden["given"]["layer"], {} if granularity == "layer" else golden["given"][granularity])


def factors(three: Specialists, weights: Coefficients, granularity: str) -> dict[str, Tensor]:
    inputs = MergeInput(validate_experts(three.adapters, "factors"), "factors")
    state = merge_by(inputs, ConvexSettings(), weights).state
    assert isinstance(state, LoraState)
    return dict(state.tensors())
