"""Predictions as a report keeps them: what the file says, read once, shared where questions are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.report.synthetic import add_run, predictions, seal

from esmerge.core.errors import InputError, StoreError
from esmerge.evaluation.significance import paired_difference, stack_predictions
from esmerge.report.load import load_sweep
from esmerge.report.statistics import columns, compare
from esmerge.report.stored_answers import StoredAnswers

ONE = {"d": ("D", "cross_modal")}


def test_answers_are_those_of_the_file_quoted_or_not(tmp_path: Path) -> None:
    run = add_run(tmp_path, "average", "average", 0.6, n=30, suite=ONE)
    plain = run.read_predictions("d")
    assert plain is not None
    quoted = plain.assign(raw_answer=['well, "yes"\nor no', *plain["raw_answer"][1:]])
    for frame in (plain, quoted):
        run.write_predictions("d", frame)
        answers = StoredAnswers(tmp_path).answers("average", "d")
        assert answers is not None and answers.questions.ids == tuple(frame["id"])
        np.testing.assert_array_equal(answers.right, frame["label"] == frame["prediction"])
        odds = np.where(frame["prediction"] == "yes", 1, -1) * (frame["score:yes"] - frame["score:no"])
        np.testing.assert_allclose(answers.confidence, 1 / (1 + np.exp(-odds)), rtol=1e-12)


def test_the_same_questions_are_kept_once(tmp_path: Path) -> None:
    for name, terms in {"average": {}, "ties": {}, "base": {"checksum": "other"}}.items():
        add_run(tmp_path, name, name, 0.6, n=10, suite=ONE, terms=terms)
    store = StoredAnswers(tmp_path)
    average, ties, base = (store.answers(name, "d") for name in ("average", "ties", "base"))
    assert average and ties and base
    assert average.questions is ties.questions and average.questions is not base.questions
    assert store.answers("average", "d") is average and store.answers("average", "nothing") is None


def test_an_answer_that_is_no_label_keeps_its_words(tmp_path: Path) -> None:
    run = add_run(tmp_path, "average", "average", 1.0, n=4, suite=ONE)
    frame = predictions(1.0, 4, "")
    frame.loc[2, ["prediction", "raw_answer", "score:no", "score:yes"]] = ["", "perhaps", np.nan, np.nan]
    run.write_predictions("d", frame)
    answers = StoredAnswers(tmp_path).answers("average", "d")
    assert answers is not None and answers.unknown == {2: "perhaps"} and answers.predictions[2] == 0
    assert np.isnan(answers.confidence[2]) and np.isfinite(np.delete(answers.confidence, 2)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label,prediction\n1,a,b\n", "lacks the column.* raw_answer"),
        ("id,label,prediction,raw_answer\n1,a,b\n", "Expected 4 columns, got 3: 1,a,b"),
        ("id,label,prediction,raw_answer,score:a\n1,a,a,a,much\n", "texts in column 'score:a'"),
        ("id,label,prediction,raw_answer\n1,\udcff,a,a\n", "no table of predictions.*UTF8"),
        ("", "no table of predictions.*Empty"),
    ],
)
def test_a_damaged_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.5, n=4, suite=ONE)
    path = tmp_path / "average" / "predictions" / "d.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(StoreError, match=f"d.csv.*{message}"):
        StoredAnswers(tmp_path).answers("average", "d")


def test_a_comparison_is_the_paired_one_over_seeds_and_benchmarks(tmp_path: Path) -> None:
    suite = {**ONE, "e": ("E", "cross_modal")}
    frames = {}
    for method, rate in {"average": 0.6, "es": 0.7}.items():
        for seed in (0, 1):
            run = add_run(tmp_path, f"{method}{seed}", method, rate, n=80, seed=seed, suite=suite, key=method)
            frames |= {(method, str(seed), name): run.read_predictions(name) for name in suite}
    sweep = load_sweep(tmp_path)
    average, es = sweep.rows
    mean = next(column for column in columns(sweep) if column.is_mean)
    tables = [
        stack_predictions({(seed, name): frame for (m, seed, name), frame in frames.items() if m == method})
        for method in ("es", "average")
    ]
    assert compare(sweep, es, average, mean).result == paired_difference(*tables, seed=0)


def test_a_question_that_is_answered_twice_is_refused(tmp_path: Path) -> None:
    for name in ("average", "es"):
        run = add_run(tmp_path, name, name, 0.5, n=4, suite=ONE)
        run.write_predictions("d", predictions(0.5, 4, "").assign(id=["q0", "q0", "q1", "q2"]))
        seal(run)
    sweep = load_sweep(tmp_path)
    with pytest.raises(InputError, match="answers example 'd/q0' twice"):
        compare(sweep, *sweep.rows, columns(sweep)[0])
