"""The exam of a whole set: what is required of reading and of each specialist, and what fails by name."""

from __future__ import annotations

import pytest

from esmerge.specialists.families.language_model.grades import grades

RECORDED = {
    "reading": {"before": {"binds": 0.5}, "after": {"binds": 0.95}},
    "encoder cell": {"encoder_loss": 0.1},
    "specialist molecule": {"specialist_accuracy": 0.7, "backbone_accuracy": 0.5, "specialist_ranking": 0.8},
    "projector alone molecule": {"accuracy": 0.52},
}


def test_a_set_that_reads_and_perceives_passes() -> None:
    exam = grades(RECORDED, 0.9)
    assert exam.failures() == [] and exam.figures["backbone reads binds"] == 0.95
    assert exam.figures["molecule specialist, gain over backbone"] == pytest.approx(0.2)
    assert exam.figures["molecule specialist, gain over projector"] == pytest.approx(0.18)


def test_what_is_too_low_is_named() -> None:
    low = RECORDED | {"reading": {"after": {"binds": 0.8}}, "projector alone molecule": {"accuracy": 0.69}}
    first, second = grades(low, 0.9).failures()
    assert "backbone reads binds is 0.800" in first and "gain over projector is 0.010" in second
    cell = {"specialist_accuracy": 0.9, "backbone_accuracy": 0.88, "specialist_ranking": 1.0}
    (failure,) = grades(RECORDED | {"specialist cell": cell}, 0.9).failures()
    assert failure == "cell specialist, gain over backbone is 0.020, expected at least 0.15"


def test_without_matched_questions_specialists_are_reported_and_nothing_is_required() -> None:
    plain = {"specialist_accuracy": 0.7, "backbone_accuracy": 0.5}
    exam = grades({"reading": RECORDED["reading"], "specialist molecule": plain}, 0.9)
    assert set(exam.required) == {"backbone reads binds"} and exam.figures["molecule specialist"] == 0.7
