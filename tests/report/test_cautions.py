"""What makes an accuracy say less than it seems to is said beside it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tests.report.synthetic import LABELS, add_run, predictions, seal

from esmerge.report.load import load_sweep
from esmerge.report.verdict import verdict

ONE = {"drug_protein": ("Drug–protein", "cross_modal")}


def answered(sweep: Path, method: str, labels: list[str], answers: list[str], **options: object) -> None:
    """A run whose answers to one benchmark are these."""
    run = add_run(sweep, method, method, 0.5, suite=ONE, n=len(labels), merge_space="delta", **options)  # type: ignore[arg-type]
    frame = predictions(0.5, len(labels), method).assign(label=labels, prediction=answers, raw_answer=answers)
    run.write_predictions("drug_protein", frame)
    seal(run)


def test_refused_rows_are_counted(tmp_path: Path) -> None:
    add_run(tmp_path, "ties", "ties", 0.7, terms={"rejects": 12}, merge_space="delta")
    add_run(tmp_path, "average", "average", 0.6, terms={"rejects": 12})
    assert "Rows that were refused, so that nobody was asked: Drug–protein 12," in verdict(load_sweep(tmp_path))


def test_counts_that_differ_between_seeds_are_given_as_they_are(tmp_path: Path) -> None:
    for seed, rejects in enumerate((12, 3, 7)):
        add_run(tmp_path, f"ties_{seed}", "ties", 0.7, seed=seed, suite=ONE, n=20, terms={"rejects": rejects})
    assert "asked: Drug–protein 3 to 12 by seed or settings; rejects/" in verdict(load_sweep(tmp_path))


def test_nothing_is_said_where_there_is_nothing_to_say(tmp_path: Path) -> None:
    add_run(tmp_path, "ties", "ties", 0.7, merge_space="delta")
    add_run(tmp_path, "average", "average", 0.6)
    text = verdict(load_sweep(tmp_path))
    assert "refused" not in text and "Mind" not in text


def test_questions_with_one_answer_are_pointed_out(tmp_path: Path) -> None:
    for method in ("ties", "average"):
        answered(tmp_path, method, ["yes"] * 40, ["yes"] * 40)
    text = verdict(load_sweep(tmp_path))
    assert "the right answer to all 40 questions of Drug–protein is 'yes'" in text
    assert "answers 'yes' to all" not in text  # a method cannot do otherwise


def test_methods_with_one_answer_are_pointed_out(tmp_path: Path) -> None:
    labels = [LABELS[i % 2] for i in range(200)]
    answered(tmp_path, "ties", labels, ["no"] * 200)
    answered(tmp_path, "average", labels, ["no"] * 197 + ["yes"] * 3)
    text = verdict(load_sweep(tmp_path))
    assert "TIES (delta) answers 'no' to all 200 questions of Drug–protein." in text
    assert "Average (delta) answers 'no' to 98.5 % of the 200 questions of Drug–protein." in text


def test_an_answer_that_is_as_frequent_as_it_is_right_is_none(tmp_path: Path) -> None:
    labels = ["no"] * 195 + ["yes"] * 5
    for method in ("ties", "average"):
        answered(tmp_path, method, labels, ["no"] * 199 + ["yes"])
    assert "Mind that" not in verdict(load_sweep(tmp_path))


def test_answers_that_nobody_can_read_are_said(tmp_path: Path) -> None:
    labels = [LABELS[i % 2] for i in range(100)]
    answered(tmp_path, "ties", labels, [""] * 100)
    answered(tmp_path, "average", labels, labels)
    assert "TIES (delta) answers nothing that can be parsed to all 100 questions" in verdict(load_sweep(tmp_path))


def test_seeds_count_together(tmp_path: Path) -> None:
    labels = pd.Series([LABELS[i % 2] for i in range(100)])
    for seed, answers in ((0, ["no"] * 100), (1, ["yes"] * 100)):
        run = add_run(tmp_path, f"ties-{seed}", "ties", 0.5, seed=seed, suite=ONE, n=100, merge_space="delta")
        run.write_predictions("drug_protein", predictions(0.5, 100, "k").assign(label=labels, prediction=answers))
        seal(run)
    assert "Mind that" not in verdict(load_sweep(tmp_path))
