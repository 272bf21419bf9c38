"""Merges where experts lie in main memory and the work is done on another device.

The other device is torch's ``meta`` inside its fake mode: it computes no values, but refuses to mix devices as a GPU
does, and raises wherever the host would have to wait for a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from esmerge.adapters import dense, lora
from esmerge.adapters.lora import LoraFactors
from esmerge.calibration import types as calibration_types
from esmerge.coefficients import estimation
from esmerge.coefficients.uncertainty import measured_distances
from esmerge.core import torch_rng
from esmerge.core.devices import moved
from esmerge.merging.api import MERGES, MergeRequest
from esmerge.merging.run import run
from esmerge.testing.case import Case
from esmerge.testing.inputs import make_experts

OTHER = torch.device("meta")
HOST_WAITS = (DataDependentOutputException, DynamicOutputShapeException)
WAITING = {  # what these compute decides how they go on: a rank, a global threshold, a norm of all modules, a direction
    "adamerging",
    "compress_then_merge",
    "emr",
    "es_noise",
    "es_permuted",
    "expert_merging",
    "fisher",
    "inverse_norm",
    "knots",
    "knots_dare",
    "nsc",
    "pcb",
    "slerp",
    "ties",
}
CASES = [
    pytest.param(Case(MERGES.get(name), space, granularity), id="-".join(filter(None, (name, space, granularity))))
    for name in MERGES.names()
    for space in MERGES.get(name).info.spaces
    for granularity in (MERGES.get(name).info.granularities or (None,))
]


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """Fake tensors, among them what random numbers would be; nothing is looked through for NaN."""

    def drawn(
        shape: tuple[int, ...], *names: object, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        return torch.empty(*shape, device=device, dtype=dtype)

    for name in ("uniform", "normal"):
        monkeypatch.setattr(torch_rng, name, drawn)
    monkeypatch.setattr(torch_rng, "permutation", lambda count, *names, device: torch.arange(count, device=device))
    for module in (dense, lora, estimation):
        monkeypatch.setattr(module, "all_finite", lambda tensor: True)
    monkeypatch.setattr(estimation, "not_finite", lambda tensors: [])
    yield FakeTensorMode(allow_non_fake_inputs=True)


def request_of(case: Case) -> MergeRequest:
    """Experts, signals and statistics with real values in main memory."""
    request = replace(case.inputs(make_experts(3)), device=OTHER)
    if request.signals is None or request.granularity is None:
        return request
    return replace(request, distances=measured_distances(request.signals, request.granularity, 0))


@pytest.mark.parametrize("case", CASES)
def test_everything_is_on_the_device_that_computes(case: Case, fake: FakeTensorMode) -> None:
    request = request_of(case)
    with fake:
        try:
            state = run(case.entry, request, case.settings()).state
            results = [state.modules[module] for module in state.modules]
        except HOST_WAITS:
            assert case.entry.name in WAITING or (case.entry.name.startswith("es") and case.granularity == "layer")
            return
    tensors = [
        t for result in results for t in ((result.a, result.b) if isinstance(result, LoraFactors) else (result,))
    ]
    assert tensors and all(isinstance(t, FakeTensor) and t.device == OTHER for t in tensors)


@pytest.mark.parametrize("granularity", ["element", "joint"])
def test_coefficients_of_a_device_wait_for_nothing(granularity: str, fake: FakeTensorMode) -> None:
    request = request_of(Case(MERGES.get("es"), "factors", granularity))
    assert request.signals is not None and request.granularity is not None
    shapes = {name: tuple(t.shape) for name, t in next(iter(request.experts.values())).tensors().items()}
    with fake:
        coefficients = estimation.coefficients(
            request.signals, request.granularity, shapes, 0, request.distances, OTHER
        )
    assert {t.device for tensors in coefficients.elements.values() for t in tensors.values()} == {OTHER}
    assert {t.device.type for t in coefficients.layer.values()} == {"cpu"}


def test_statistics_are_moved_one_by_one(fake: FakeTensorMode) -> None:
    with fake:
        moved_statistics = calibration_types.on_device({"expert": {"a": torch.ones(2), "b": torch.ones(3)}}, OTHER)
        assert {name: tensor.device for name, tensor in moved_statistics["expert"].items()} == {"a": OTHER, "b": OTHER}
        assert moved(torch.ones(1), OTHER).device == OTHER
