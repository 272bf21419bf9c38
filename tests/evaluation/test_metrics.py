from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from src.errors import InputError
from src.evaluation.metrics import (
    METRICS,
    bootstrap_values,
    draw_counts,
    metric_rows,
    point_values,
    read_answers,
    resampled_values,
)


def frame(truth: list[int], predicted: list[int], scores: np.ndarray, labels: list[str]) -> pd.DataFrame:
    """Predictions; an index of ``len(labels)`` stands for an answer that could not be parsed."""
    texts = [*labels, ""]
    columns = {f"score:{label}": scores[:, index] for index, label in enumerate(labels)}
    ids = [f"q{i}" for i in range(len(truth))]
    known = {"id": ids, "label": [texts[i] for i in truth], "prediction": [texts[i] for i in predicted]}
    return pd.DataFrame({**known, **columns, "score": 0.5, "raw_answer": ""})


def random_frame(n: int, classes: int, seed: int, decimals: int = 6) -> tuple[pd.DataFrame, list[str]]:
    rng = np.random.default_rng(seed)
    labels = [f"class {i}" for i in range(classes)]
    truth = np.r_[np.arange(classes), np.arange(classes), rng.integers(0, classes, n - 2 * classes)]
    scores = np.round(rng.normal(size=(n, classes)) + np.eye(classes)[truth], decimals)
    predicted = np.where(rng.random(n) < 0.1, classes, scores.argmax(axis=1))
    return frame(list(truth), list(predicted), scores, labels), labels


def sklearn_values(truth: np.ndarray, predicted: np.ndarray, scores: np.ndarray, classes: int) -> dict[str, float]:
    """The same metrics, written with scikit-learn on materialised samples."""
    seen = sorted((set(truth) | set(predicted)) - {classes})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {
            "accuracy": accuracy_score(truth, predicted),
            "balanced_accuracy": balanced_accuracy_score(truth, predicted),
            "macro_f1": f1_score(truth, predicted, labels=seen, average="macro", zero_division=0),
            "unparsable": np.mean(predicted == classes),
        }
    probabilities = np.round(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True), 10)  # keeps ties ties
    if classes == 2:
        values["auroc"] = roc_auc_score(truth == 1, probabilities[:, 1]) if len(set(truth)) == 2 else np.nan
    else:
        present = [c for c in range(classes) if 0 < (truth == c).sum() < len(truth)]
        values["auroc"] = np.mean([roc_auc_score(truth == c, probabilities[:, c]) for c in present])
    return values


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("decimals", [6, 0])  # rounding to integers makes ties
def test_every_resample_equals_scikit_learn(classes: int, decimals: int) -> None:
    data, labels = random_frame(60, classes, seed=classes, decimals=decimals)
    answers = read_answers(data, labels)
    raw = data[[f"score:{label}" for label in labels]].to_numpy()
    counts = np.concatenate(list(draw_counts(60, seed=1, resamples=40)))
    values = resampled_values(answers, counts)
    for row, count in enumerate(counts.astype(int)):
        chosen = np.repeat(np.arange(60), count)
        expected = sklearn_values(answers.truth[chosen], answers.predicted[chosen], raw[chosen], classes)
        for metric in METRICS:
            assert values[metric][row] == pytest.approx(expected[metric], nan_ok=True), metric


@pytest.mark.parametrize("classes", [2, 3])
def test_point_values_equal_scikit_learn_and_the_whole_sample(classes: int) -> None:
    data, labels = random_frame(80, classes, seed=5)
    answers = read_answers(data, labels)
    raw = data[[f"score:{label}" for label in labels]].to_numpy()
    whole = resampled_values(answers, np.ones((1, 80)))
    expected = sklearn_values(answers.truth, answers.predicted, raw, classes)
    for metric, value in point_values(answers).items():
        assert value == pytest.approx(expected[metric])
        assert whole[metric][0] == pytest.approx(expected[metric])


def test_unparsable_counts_as_wrong_by_hand() -> None:
    data = frame([0, 0, 1, 1], [0, 2, 1, 1], np.zeros((4, 2)), ["no", "yes"])
    values = {row["metric"]: row["value"] for row in metric_rows(data, ["no", "yes"], seed=0, resamples=10)}
    assert values["accuracy"] == 3 / 4
    assert values["balanced_accuracy"] == (1 / 2 + 1) / 2
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)  # no: precision 1, recall 1/2
    assert values["unparsable"] == 1 / 4
    assert values["auroc"] == 1 / 2  # all scores tie


def test_one_class_leaves_auroc_empty_not_one_half() -> None:
    data = frame([1, 1, 1], [1, 0, 1], np.array([[0, 1], [1, 0], [0, 2.0]]), ["no", "yes"])
    row = {row["metric"]: row for row in metric_rows(data, ["no", "yes"], seed=0)}["auroc"]
    assert all(np.isnan(row[key]) for key in ("value", "ci_low", "ci_high")) and row["n"] == 3


def test_auroc_is_empty_without_scores_and_refused_with_some() -> None:
    data, labels = random_frame(20, 2, seed=0)
    columns = [f"score:{label}" for label in labels]
    bare = data.drop(columns=[*columns, "score"])
    assert np.isnan(point_values(read_answers(bare, labels))["auroc"])
    data.loc[7, columns[0]] = np.nan
    with pytest.raises(InputError, match="'q7' has no finite score"):
        metric_rows(data, labels, seed=0)


def test_saturated_probabilities_still_rank_by_log_odds() -> None:
    scores = np.array([[-100.0, 0.0], [-50.0, 0.0], [0.0, -50.0], [0.0, -100.0]])
    data = frame([1, 1, 1, 0], [1, 1, 0, 0], scores, ["no", "yes"]).assign(score=[1.0, 1.0, 0.0, 0.0])
    assert point_values(read_answers(data, ["no", "yes"]))["auroc"] == 1.0
    only_probability = data.drop(columns=["score:no", "score:yes"])
    assert point_values(read_answers(only_probability, ["no", "yes"]))["auroc"] == pytest.approx(2.5 / 3)


def test_interval_of_accuracy_matches_the_binomial() -> None:
    truth = [1] * 400
    predicted = [1] * 300 + [0] * 100
    data = frame(truth, predicted, np.zeros((400, 2)), ["no", "yes"])
    row = metric_rows(data, ["no", "yes"], seed=3, resamples=4000)[0]
    half_width = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert row["ci_low"] == pytest.approx(0.75 - half_width, abs=0.006)
    assert row["ci_high"] == pytest.approx(0.75 + half_width, abs=0.006)


def test_same_seed_same_interval_other_seed_other() -> None:
    data, labels = random_frame(50, 3, seed=2)
    assert metric_rows(data, labels, seed=1) == metric_rows(data, labels, seed=1)
    assert metric_rows(data, labels, seed=1) != metric_rows(data, labels, seed=2)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(6, 40), classes=st.integers(2, 3), seed=st.integers(0, 999))
def test_values_are_rates_and_intervals_are_ordered(n: int, classes: int, seed: int) -> None:
    data, labels = random_frame(n, classes, seed)
    for row in metric_rows(data, labels, seed, resamples=200):
        assert 0 <= row["ci_low"] <= row["ci_high"] <= 1 and 0 <= row["value"] <= 1 and row["n"] == n


def test_chunks_hold_every_resample_and_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.evaluation.metrics.CHUNK", 70)
    chunks = list(draw_counts(10, seed=0, resamples=23))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 2]
    assert all((chunk.sum(axis=1) == 10).all() for chunk in chunks)
    data, labels = random_frame(10, 2, seed=1)
    assert all(len(drawn) == 23 for drawn in bootstrap_values(read_answers(data, labels), 0, 23).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="prediction"), "lack the column"),
        (lambda f: f.iloc[:0], "empty"),
        (lambda f: f.assign(label="maybe"), "'q0': label 'maybe'"),
        (lambda f: f.assign(prediction="perhaps"), "prediction 'perhaps'"),
        (lambda f: f.assign(label=""), "label '' is not a label"),
    ],
)
def test_bad_frames_are_refused_by_name(change, message: str) -> None:
    data, labels = random_frame(10, 2, seed=0)
    with pytest.raises(InputError, match=message):
        metric_rows(change(data), labels, seed=0)


def test_a_thousand_resamples_of_a_thousand_examples_are_quick() -> None:
    data, labels = random_frame(1000, 2, seed=0)
    spent = []
    for _ in range(3):
        start = time.process_time()
        metric_rows(data, labels, seed=0)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.3
