"""AdaMerging: task arithmetic with one fitted coefficient per expert and layer."""

from __future__ import annotations

import pytest
import torch
from tests import small
from tests.merging.builders import dense, distance, make_experts

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.statistics.entropy import EntropySettings
from esmerge.core.errors import AdapterError, ConfigError
from esmerge.core.methods import MethodKind
from esmerge.core.prompts import Entity, Example
from esmerge.merging.api import MERGES, MergeInput
from esmerge.merging.methods.adamerging import AdaMergingSettings, adamerging
from esmerge.merging.methods.task_arithmetic import TaskArithmeticSettings, task_arithmetic
from esmerge.merging.run import merge

ROOT = "base_model.model.model.layers"


def test_by_hand() -> None:
    # layer 0: 0.3 * 2 * (1, 0) + 0.1 * (10, 20) = (1.6, 2); the LoRA scale of x is 2, that of y is 1
    x = LoraState({f"{ROOT}.0.q": LoraFactors(torch.tensor([[1.0, 0]]), torch.ones(1, 1), 2.0)})
    y = LoraState({f"{ROOT}.0.q": LoraFactors(torch.tensor([[10.0, 20]]), torch.ones(1, 1), 1.0)})
    coefficients = {"x": {"layer": torch.tensor([0.3])}, "y": {"layer": torch.tensor([0.1])}}
    inputs = MergeInput({"x": x, "y": y}, "delta", statistics={"entropy": coefficients})
    merged = adamerging(inputs, AdaMergingSettings()).state
    torch.testing.assert_close(dense(merged)[f"{ROOT}.0.q"], torch.tensor([[1.6, 2.0]]).double())


def test_equal_coefficients_are_task_arithmetic() -> None:
    experts = make_experts(3)
    coefficients = {name: {"layer": torch.full((2,), 0.3)} for name in experts}
    merged = adamerging(MergeInput(experts, "delta", statistics={"entropy": coefficients}), AdaMergingSettings()).state
    expected = task_arithmetic(MergeInput(experts, "delta"), TaskArithmeticSettings(scale=0.3)).state
    assert distance(merged, dense(expected)) < 1e-6


def test_from_unlabelled_questions_to_a_merged_adapter() -> None:
    specialists = small.specialists({"mol": "molecule", "prot": "protein", "gene": "cell"})
    questions = {
        "binary": [
            Example(str(i), ("drug : ", Entity("molecule", value), " ? "), ("no", "yes"), i % 2)
            for i, value in enumerate(small.POOL["molecule"])
        ]
    }
    settings = AdaMergingSettings(entropy=EntropySettings(steps=4, rate=0.02, batch=3))
    coefficients = STATISTICS.get("entropy").function(
        CalibrationData(specialists, (), 2, questions=questions), settings.entropy
    )
    merged = merge(
        "adamerging", MergeInput(specialists.adapters, "delta", statistics={"entropy": coefficients}), settings
    ).state
    for module, delta in dense(merged).items():
        layer = int(module.removeprefix(f"{ROOT}.").split(".")[0])
        expected = sum(
            coefficients[n]["layer"][layer].double() * dense(s)[module] for n, s in specialists.adapters.items()
        )
        torch.testing.assert_close(delta, expected, rtol=1e-4, atol=1e-5)


def test_coefficients_of_other_layers_are_refused() -> None:
    experts = make_experts(2)
    coefficients = {name: {"layer": torch.ones(3)} for name in experts}
    with pytest.raises(AdapterError, match=r"'entropy' gives expert 'expert2' coefficients of shape \(3,\).*2 layers"):
        merge("adamerging", MergeInput(experts, "delta", statistics={"entropy": coefficients}), AdaMergingSettings())


def test_it_stands_apart_since_it_reads_test_questions() -> None:
    info = MERGES.get("adamerging").info
    assert info.kind is MethodKind.TASK_AWARE and info.needs == ("entropy",)
    assert STATISTICS.get("entropy").info.questions


def test_scale_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="method.scale=-1 must be greater than 0"):
        AdaMergingSettings(scale=-1)
