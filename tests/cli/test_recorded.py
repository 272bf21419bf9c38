"""What a training recorded is told in lines, not as a dictionary."""

from __future__ import annotations

from esmerge.cli.recorded import recorded_lines


def test_exams_stand_in_one_line_each_and_the_rest_below_its_name() -> None:
    exam = {"questions": 400, "accuracy": 0.79, "low": 0.7466, "high": 0.8336, "ranking": 0.815}
    record = {"encoder_loss": 1.68862, "training_seconds": 286.19, "specialist": {"inhibits": exam}}
    assert list(recorded_lines("specialist molecule", record)) == [
        "  specialist molecule:",
        "    encoder loss: 1.689",
        "    training seconds: 286.2",
        "    specialist:",
        "      inhibits: 79.0 % [74.7, 83.4]; questions 400; ranking 0.815",
    ]


def test_what_is_no_number_is_told_as_it_is() -> None:
    assert list(recorded_lines("note", "seed 0")) == ["  note: seed 0"]
    assert list(recorded_lines("exam", {"accuracy": None})) == ["  exam: – %"]
