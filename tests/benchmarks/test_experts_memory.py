"""Coefficients of N experts need one backbone, adapters and one layer's work: counted in bytes of living tensors."""

from __future__ import annotations

import pytest
import torch
from benchmarks.speed import experts
from benchmarks.speed.alive import Alive
from benchmarks.speed.probing import reference

TINY = ["--layers=3", "--hidden=64", "--words=50", "--probes=4", "--length=24", "--rank=2"]


def test_bytes_are_counted_from_making_to_freeing() -> None:
    before = torch.zeros(1000)
    with Alive([before]) as alive:
        first = torch.ones(100)
        assert alive.bytes == 400
        view = first[:10].view(2, 5)
        first.add_(before[:100])
        assert alive.bytes == 400, "a view and what was there before need nothing"
        second = first * 2
        assert alive.bytes == 800
        del first
        assert alive.bytes == 800, "its view holds it"
        del view, second
        torch.from_numpy(torch.zeros(7).numpy()).neg_()
    assert alive.bytes == 0 and alive.peak == 800


@pytest.fixture(scope="module")
def rows() -> dict[int, dict[str, float]]:
    options = experts.arguments(TINY)
    return {count: experts.measured(experts.case(options, count)) for count in (2, 3, 6)}


def test_memory_grows_with_adapters_and_not_with_backbones(rows: dict[int, dict[str, float]]) -> None:
    for fewer, more in ((2, 3), (3, 6)):
        times = experts.added(rows[fewer], rows[more])
        assert times <= 2.2, "an expert adds its factors, its coefficients, and its hidden states in one layer"
    assert rows[6]["peak"] - rows[2]["peak"] < rows[2]["backbone"], "where copies would add four"


def test_the_count_is_the_same_every_time(rows: dict[int, dict[str, float]]) -> None:
    assert experts.measured(experts.case(experts.arguments(TINY), 2)) == rows[2]


def test_copies_of_the_backbone_would_be_counted() -> None:
    case = experts.case(experts.arguments(TINY), 2)
    model = case.specialists.backbone.model
    backbone = sum(weight.nbytes for weight in model.parameters())
    with Alive([*model.parameters(), *model.buffers()]) as alive:
        reference(case)
    assert alive.peak > 3 * backbone
