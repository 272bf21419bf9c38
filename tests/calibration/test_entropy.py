"""The answers' entropy against the scoring, and what its fit may and may not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from tests import small

from esmerge.calibration.api import STATISTICS, CalibrationData
from esmerge.calibration.fitting import mixture
from esmerge.calibration.statistics.entropy import (
    EntropySettings,
    draw_questions,
    entropy,
    label_loglikelihoods,
    mean_entropy,
)
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Entity, Example
from esmerge.model.scoring import score

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}
QUICK = EntropySettings(steps=8, rate=0.02, batch=3)
SHOWN = (
    ("drug : ", Entity("molecule", "CCO"), " ; ? "),
    ("cell : ", Entity("cell", "ALB TTR CD4"), " ; drug : ", Entity("molecule", "CCN"), " ; maybe ? "),
    ("protein : ", Entity("protein", "MKTAY"), " ; cell : ", Entity("cell", "SOX2"), " ? "),
)


def questions(count: int, labels: tuple[str, ...]) -> list[Example]:
    words = list(small.GENES)
    return [
        Example(str(i), (*SHOWN[i % 3], " ".join(words[: i % 5]) + " ? "), labels, i % len(labels))
        for i in range(count)
    ]


class Closed(Example):
    """A question whose answer must not be read."""

    @property
    def answer(self) -> int:  # type: ignore[override]
        raise AssertionError("an answer was read")


def closed(example: Example) -> Closed:
    copy = object.__new__(Closed)  # without __init__, which would set the answer
    for name in ("id", "prompt", "labels", "group"):
        object.__setattr__(copy, name, getattr(example, name))
    return copy


def material(seed: int = 0) -> CalibrationData:
    benchmarks = {"binary": questions(7, ("no", "yes")), "long": questions(5, ("not at all", "maybe", "not at no"))}
    return CalibrationData(small.specialists(THREE), (), batch_size=2, seed=seed, questions=benchmarks)


@pytest.mark.parametrize("labels", [("no", "yes"), ("no", "yes not at all", "yes not at no", "not at", "yes")])
def test_loglikelihoods_are_those_of_the_scoring(labels: tuple[str, ...]) -> None:
    prompt_encoder, examples = small.specialists(THREE).prompt_encoder, questions(6, labels)
    with torch.no_grad():
        loglikelihoods = torch.stack(label_loglikelihoods(prompt_encoder, examples))
    torch.testing.assert_close(loglikelihoods.double(), score(prompt_encoder, examples, 2).loglik, rtol=0, atol=1e-5)


def test_questions_of_one_batch_may_have_different_labels() -> None:
    prompt_encoder = small.specialists(THREE).prompt_encoder
    examples = [*questions(2, ("no", "yes at")), *questions(2, ("not at all", "maybe", "no"))]
    loglikelihoods = label_loglikelihoods(prompt_encoder, examples)
    assert [len(loglik) for loglik in loglikelihoods] == [2, 2, 3, 3]
    for example, loglik in zip(examples, loglikelihoods, strict=True):
        torch.testing.assert_close(loglik.double(), score(prompt_encoder, [example], 1).loglik[0], rtol=0, atol=1e-5)


def test_entropy_by_hand() -> None:
    # two equal labels: ln 2; a sure answer: 0; odds of 3 to 1: 0.75 ln(4/3) + 0.25 ln 4
    equal, sure, odds = torch.zeros(2), torch.tensor([0.0, -200.0, -200.0]), torch.tensor([3.0, 1.0]).log()
    assert float(mean_entropy([equal])) == pytest.approx(0.693147, abs=1e-6)
    assert float(mean_entropy([sure])) == 0
    assert float(mean_entropy([odds])) == pytest.approx(scipy_entropy([3, 1]), abs=1e-6)
    assert float(mean_entropy([equal, sure, odds])) == pytest.approx((0.693147 + scipy_entropy([3, 1])) / 3, abs=1e-6)


def test_a_sure_answer_has_a_finite_gradient() -> None:
    loglik = torch.tensor([0.0, -200.0], requires_grad=True)
    mean_entropy([loglik]).backward()
    assert torch.isfinite(loglik.grad).all()


def total(data: CalibrationData, weights: torch.Tensor) -> float:
    """Entropy of all questions, summed over the benchmarks."""
    with mixture(data.specialists.backbone.model, data.specialists.adapters) as mixed, torch.no_grad():
        mixed.weights = weights
        parts = [
            mean_entropy(label_loglikelihoods(data.specialists.prompt_encoder, e)) for e in data.questions.values()
        ]
    return float(sum(parts))


def test_the_fit_lowers_the_entropy_and_returns_a_coefficient_per_expert_and_layer() -> None:
    data = material()
    coefficients = entropy(data, replace(QUICK, steps=25, batch=16))
    assert list(coefficients) == list(THREE)
    weights = torch.stack([coefficients[name]["layer"] for name in THREE])
    assert weights.shape == (3, 3) and (weights >= 0).all() and (weights <= 1).all()
    assert total(data, weights) < total(data, torch.full((3, 3), 0.3)) - 0.02


def test_answers_are_never_read() -> None:
    data = material()
    expected = entropy(data, QUICK)
    shifted = {
        name: [replace(e, answer=(e.answer + 1) % len(e.labels)) for e in examples]
        for name, examples in data.questions.items()
    }
    hidden = {name: [closed(e) for e in examples] for name, examples in data.questions.items()}
    for benchmarks in (shifted, hidden):
        coefficients = entropy(replace(data, questions=benchmarks), QUICK)
        assert all(torch.equal(coefficients[name]["layer"], expected[name]["layer"]) for name in THREE)


def test_the_order_of_experts_benchmarks_and_labels_does_not_matter() -> None:
    data = material()
    expected = entropy(data, QUICK)
    benchmarks = {
        name: [replace(e, labels=e.labels[::-1]) for e in examples]
        for name, examples in reversed(data.questions.items())
    }
    adapters = dict(reversed(data.specialists.adapters.items()))
    coefficients = entropy(
        replace(data, questions=benchmarks, specialists=replace(data.specialists, adapters=adapters)), QUICK
    )
    for name in THREE:
        torch.testing.assert_close(coefficients[name]["layer"], expected[name]["layer"], rtol=1e-3, atol=1e-4)


def test_draws_are_without_repetition_and_depend_on_seed_benchmark_and_step() -> None:
    examples = questions(20, ("no", "yes"))

    def drawn(*where: Any) -> list[str]:
        return [example.id for example in draw_questions(examples, 8, *where)]

    assert len(set(drawn(0, "binary", 0))) == 8
    assert drawn(0, "binary", 0) == drawn(0, "binary", 0)
    assert len({tuple(drawn(*w)) for w in [(0, "binary", 0), (1, "binary", 0), (0, "long", 0), (0, "binary", 1)]}) == 4
    assert sorted(e.id for e in draw_questions(examples, 99, 0, "binary", 0)) == sorted(e.id for e in examples)


def test_coefficients_are_clamped_to_zero_and_one() -> None:
    coefficients = entropy(material(), replace(QUICK, steps=6, rate=0.5))
    weights = torch.stack([tensors["layer"] for tensors in coefficients.values()])
    assert (weights >= 0).all() and (weights <= 1).all() and ((weights == 0) | (weights == 1)).any()


def test_the_specialists_are_left_as_they_were_found() -> None:
    data = material()
    before = {name: p.clone() for name, p in data.specialists.backbone.model.named_parameters()}
    entropy(data, QUICK)
    after = dict(data.specialists.backbone.model.named_parameters())
    assert after.keys() == before.keys() and all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None and not p.requires_grad for p in after.values())


def test_what_cannot_be_asked_is_refused() -> None:
    data = material()
    with pytest.raises(InputError, match="needs test questions"):
        entropy(replace(data, questions={}), QUICK)
    with pytest.raises(InputError, match="label '' of example 0 has no tokens"):
        entropy(replace(data, questions={"empty": questions(1, ("", "yes"))}), QUICK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "method.entropy.steps=0: expected a number from 1"),
        ({"rate": -1.0}, "method.entropy.rate=-1.0: expected a number above 0"),
        ({"start": 1.5}, "method.entropy.start=1.5: expected a number from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EntropySettings(**changes)


def test_the_measure_says_that_it_reads_questions() -> None:
    assert STATISTICS.get("entropy").info.questions
