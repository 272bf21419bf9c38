"""Inputs at modality spans against inputs that are caught by hand, prompt by prompt, on a model without PEFT."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import small
from tests.calibration.direct import linear_inputs, own_places, same, snapshot
from torch import Tensor

from esmerge.calibration.api import CalibrationData
from esmerge.calibration.shelf import Shelf
from esmerge.calibration.statistics.span_inputs import (
    SpanInputsSettings,
    compressed,
    evenly,
    joined,
    span_inputs,
    spread,
)
from esmerge.calibration.stored import load_statistics, save_statistics
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Entity, Prompt
from esmerge.merging.api import MergeInput
from esmerge.merging.methods.span_regression import SpanRegressionSettings
from esmerge.merging.run import merge
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.variants.mixed import mixed
from esmerge.specialists.specialists import Specialists

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}


@pytest.fixture(scope="module")
def specialists() -> Specialists:
    return small.specialists(THREE)


def prompts_of(specialists: Specialists, count: int) -> list[Prompt]:
    return mixed(ProbeSettings(samples=count), specialists, seed=1)


def by_hand(specialists: Specialists, name: str, prompts: list[Prompt]) -> dict[str, Tensor]:
    """Module -> every counted input, (tokens, in)."""
    rows: dict[str, list[Tensor]] = {}
    for prompt in prompts:
        spans = own_places(specialists, prompt, specialists.expert_modality[name])
        for module, inputs in linear_inputs(specialists, specialists.adapters[name], prompt).items():
            rows.setdefault(module, []).append(inputs[spans].double())
    return {module: torch.cat(parts) for module, parts in rows.items()}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_equals_inputs_caught_by_hand(specialists: Specialists, batch_size: int) -> None:
    prompts = prompts_of(specialists, 4)
    measured = span_inputs(CalibrationData(specialists, prompts, batch_size), SpanInputsSettings(limit=None, joined=1))
    assert list(measured) == list(specialists.adapters)
    for name, state in specialists.adapters.items():
        assert set(measured[name]) == set(state.modules)
        for module, x in by_hand(specialists, name, prompts).items():
            rows = measured[name][module].double()
            assert len(rows) <= x.shape[1]
            torch.testing.assert_close(rows.T @ rows, x.T @ x / len(x), rtol=1e-4, atol=1e-5)


def test_few_tokens_are_stored_as_they_are(specialists: Specialists) -> None:
    prompts = prompts_of(specialists, 3)
    measured = span_inputs(CalibrationData(specialists, prompts, 2), SpanInputsSettings(limit=3, joined=1))
    for module, x in by_hand(specialists, "prot", prompts).items():
        rows = measured["prot"][module]
        assert len(rows) == 3  # a limit of one token for each prompt
        distances = torch.cdist(rows.double() * 3**0.5, x.double()).amin(dim=1)
        assert float(distances.max()) < 1e-4 * float(x.norm(dim=1).max())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 50))
def test_tokens_are_taken_at_even_distances(row: list[bool], quota: int, first: int) -> None:
    mask = spread(torch.tensor([row]), quota, first)[0].tolist()
    tokens = [index for index, counts in enumerate(row) if counts]
    ranks = [rank for rank, index in enumerate(tokens) if mask[index]]
    assert len(ranks) == min(len(tokens), quota) == sum(mask)
    gaps = [after - before for before, after in zip(ranks, ranks[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("quota", [1, 3, 4, 6])
def test_every_place_of_a_span_has_its_turn(quota: int) -> None:
    masks = torch.cat([spread(torch.ones(2, 8, dtype=torch.bool), quota, first) for first in range(0, 320, 2)])
    times = masks.sum(dim=0)
    assert int(times.sum()) == 320 * quota and int(times.max() - times.min()) <= 2


def test_the_limit_does_not_depend_on_the_batch(specialists: Specialists) -> None:
    prompts, limited = prompts_of(specialists, 5), SpanInputsSettings(limit=10)
    batched, single = (span_inputs(CalibrationData(specialists, prompts, size), limited) for size in (5, 1))
    for name, tensors in batched.items():
        for key, rows in tensors.items():
            torch.testing.assert_close(single[name][key], rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [3, 8, 40])
def test_compression_says_the_same(count: int) -> None:
    rows = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    short = compressed(rows)
    assert len(short) == min(count, 8)
    torch.testing.assert_close(short.T @ short, rows.T @ rows, rtol=1e-5, atol=1e-4)


def test_the_model_is_left_as_found(specialists: Specialists) -> None:
    before = snapshot(specialists)
    span_inputs(CalibrationData(specialists, prompts_of(specialists, 2), 2), SpanInputsSettings())
    assert same(before, specialists)


def test_a_modality_that_is_in_no_prompt_is_named(specialists: Specialists) -> None:
    without_cells = [
        tuple(s for s in p if not isinstance(s, Entity) or s.modality != "cell") for p in prompts_of(specialists, 2)
    ]
    with pytest.raises(InputError, match="the probe holds no cell"):
        span_inputs(CalibrationData(specialists, without_cells, 2), SpanInputsSettings())


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="method.spans.limit="):
        SpanInputsSettings(limit=0)


def test_what_was_measured_can_be_stored_and_merged_by(specialists: Specialists, tmp_path: Path) -> None:
    data = CalibrationData(specialists, prompts_of(specialists, 3), 2)
    save_statistics(span_inputs(data, SpanInputsSettings()), tmp_path)
    inputs = MergeInput(specialists.adapters, "delta", statistics={"span_inputs": load_statistics(tmp_path)})
    state = merge("span_regression", inputs, SpanRegressionSettings()).state
    assert list(state.modules) == list(specialists.adapters["mol"].modules)


def test_rows_in_a_file_are_those_in_memory(
    specialists: Specialists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, terms = CalibrationData(specialists, prompts_of(specialists, 5), 2), SpanInputsSettings()
    in_memory = span_inputs(data, terms)
    monkeypatch.setattr("esmerge.calibration.statistics.span_inputs.Shelf", lambda: Shelf(limit=0))
    in_file = span_inputs(data, terms)
    save_statistics(in_file, tmp_path)
    loaded = load_statistics(tmp_path, whole=0)
    for name, tensors in in_memory.items():
        assert list(loaded[name]) == list(in_file[name]) == list(tensors)
        for key, rows in tensors.items():
            assert torch.equal(in_file[name][key], rows) and torch.equal(loaded[name][key], rows)
            assert torch.equal(load_statistics(tmp_path)[name][key], rows)


@pytest.mark.parametrize("limit", [1, 3, 7, 40])
def test_a_limit_is_a_limit_however_many_prompts_there_are(specialists: Specialists, limit: int) -> None:
    """Seven prompts: fewer tokens than prompts, one each, and several of each."""
    prompts = prompts_of(specialists, 7)
    measured = span_inputs(CalibrationData(specialists, prompts, 2), SpanInputsSettings(limit=limit, joined=1))
    counts = [len(matrix) for rows in measured.values() for matrix in rows.values()]
    most = min(limit, 7 * (limit // 7) or limit)
    assert all(min(most, 16) <= count <= most for count in counts)  # a layer of 16 channels keeps no more rows


def test_prompts_are_left_out_at_even_distances(specialists: Specialists) -> None:
    prompts = prompts_of(specialists, 7)
    assert evenly(prompts, 3) == [prompts[0], prompts[2], prompts[4]]
    assert evenly(prompts, 7) is prompts and evenly(prompts, None) is prompts


def test_joined_prompts_are_read_as_one(specialists: Specialists) -> None:
    """So that a prompt holds several entities of each modality; the last of them has what is left."""
    prompts = prompts_of(specialists, 5)
    joined_prompts = [prompts[0] + prompts[1], prompts[2] + prompts[3], prompts[4]]
    assert joined(prompts, 2) == joined_prompts and joined(prompts, 1) == prompts
    measured = span_inputs(CalibrationData(specialists, prompts, 2), SpanInputsSettings(joined=2))
    expected = span_inputs(CalibrationData(specialists, joined_prompts, 2), SpanInputsSettings(joined=1))
    for name, rows in expected.items():
        for module, z in rows.items():
            torch.testing.assert_close(measured[name][module], z)


def test_joined_prompts_that_are_too_long_are_refused(specialists: Specialists) -> None:
    prompts = prompts_of(specialists, 400)
    with pytest.warns(UserWarning, match=r"method.spans.joined=400, prompt 0 takes \d+ positions"):
        span_inputs(CalibrationData(specialists, prompts, 1), SpanInputsSettings(joined=400))
