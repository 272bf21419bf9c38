from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    matthews_corrcoef,
    roc_auc_score,
)

from esmerge.core.errors import InputError
from esmerge.evaluation.answers import read_answers
from esmerge.evaluation.metrics import (
    BINS,
    METRICS,
    bootstrap_values,
    draw_counts,
    metric_rows,
    point_values,
    resampled_values,
)


def frame(truth: list[int], predicted: list[int], scores: np.ndarray, labels: list[str]) -> pd.DataFrame:
    """Predictions; an index of ``len(labels)`` stands for an answer that could not be parsed."""
    texts = [*labels, ""]
    columns = {f"score:{label}": scores[:, index] for index, label in enumerate(labels)}
    ids = [f"q{i}" for i in range(len(truth))]
    answers = {"id": ids, "label": [texts[i] for i in truth], "prediction": [texts[i] for i in predicted]}
    return pd.DataFrame({**answers, **columns, "score": 0.5, "raw_answer": ""})


def random_frame(n: int, classes: int, seed: int, decimals: int = 6) -> tuple[pd.DataFrame, list[str]]:
    rng = np.random.default_rng(seed)
    labels = [f"class {i}" for i in range(classes)]
    truth = np.r_[np.arange(classes), np.arange(classes), rng.integers(0, classes, n - 2 * classes)]
    scores = np.round(rng.normal(size=(n, classes)) + np.eye(classes)[truth], decimals)
    predicted = np.where(rng.random(n) < 0.1, classes, scores.argmax(axis=1))
    return frame(list(truth), list(predicted), scores, labels), labels


def sklearn_values(truth: np.ndarray, predicted: np.ndarray, scores: np.ndarray, classes: int) -> dict[str, float]:
    """The same metrics, written with scikit-learn on materialised samples."""
    labels = sorted((set(truth) | set(predicted)) - {classes})
    parsed = predicted < classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {
            "accuracy": accuracy_score(truth, predicted),
            "balanced_accuracy": balanced_accuracy_score(truth, predicted),
            "macro_f1": f1_score(truth, predicted, labels=labels, average="macro", zero_division=0),
            "unparsable": np.mean(predicted == classes),
            "mcc": matthews_corrcoef(truth, predicted),
            "accuracy_parsed": accuracy_score(truth[parsed], predicted[parsed]) if parsed.any() else np.nan,
            "macro_f1_parsed": f1_score(truth[parsed], predicted[parsed], average="macro") if parsed.any() else np.nan,
        }
    exact = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    values["ece"] = calibration_error(truth, predicted, exact)
    ranked = np.round(exact, 10)  # keeps ties ties
    columns = [1] if classes == 2 else range(classes)
    present = [c for c in columns if 0 < (truth == c).sum() < len(truth)]
    for name, area in {"auroc": roc_auc_score, "auprc": average_precision_score}.items():
        values[name] = np.mean([area(truth == c, ranked[:, c]) for c in present]) if present else np.nan
    return values


def calibration_error(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray) -> float:
    """Scikit-learn's calibration curve of "the answer is right", averaged by how many answers each point holds."""
    answers = np.where(predicted < probabilities.shape[1], predicted, probabilities.argmax(axis=1))
    confidence = probabilities[np.arange(len(answers)), answers] - 1e-10  # 1/3 is at an edge, and belongs below it
    share, mean = calibration_curve((truth == predicted).astype(int), confidence, n_bins=BINS)
    counts = pd.cut(confidence, np.linspace(0, 1, BINS + 1), include_lowest=True).value_counts().to_numpy()
    return float(np.average(np.abs(share - mean), weights=counts[counts > 0]))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("decimals", [6, 0])  # rounding to integers makes ties
def test_every_resample_equals_scikit_learn(classes: int, decimals: int) -> None:
    data, labels = random_frame(60, classes, seed=classes, decimals=decimals)
    answers = read_answers(data, labels)
    raw = data[[f"score:{label}" for label in labels]].to_numpy()
    counts = np.concatenate(list(draw_counts(60, seed=1, resamples=40)))
    values = resampled_values(answers, counts)
    for row, count in enumerate(counts.astype(int)):
        indices = np.repeat(np.arange(60), count)
        expected = sklearn_values(answers.truth[indices], answers.predicted[indices], raw[indices], classes)
        for metric in METRICS:
            assert values[metric][row] == pytest.approx(expected[metric], nan_ok=True), metric


@pytest.mark.parametrize("classes", [2, 3])
def test_point_values_equal_scikit_learn(classes: int) -> None:
    data, labels = random_frame(80, classes, seed=5)
    answers = read_answers(data, labels)
    raw = data[[f"score:{label}" for label in labels]].to_numpy()
    expected = sklearn_values(answers.truth, answers.predicted, raw, classes)
    for metric, value in point_values(answers).items():
        assert value == pytest.approx(expected[metric])


def test_unparsable_counts_as_wrong_by_hand() -> None:
    data = frame([0, 0, 1, 1], [0, 2, 1, 1], np.zeros((4, 2)), ["no", "yes"])
    values = {row["metric"]: row["value"] for row in metric_rows(data, ["no", "yes"], seed=0, resamples=10)}
    assert values["accuracy"] == 3 / 4
    assert values["balanced_accuracy"] == (1 / 2 + 1) / 2
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)  # no: precision 1, recall 1/2
    assert values["unparsable"] == 1 / 4
    assert values["auroc"] == 1 / 2  # all scores tie


@pytest.mark.parametrize("area", ["auroc", "auprc"])
def test_one_class_leaves_the_areas_empty(area: str) -> None:
    data = frame([1, 1, 1], [1, 0, 1], np.array([[0, 1], [1, 0], [0, 2.0]]), ["no", "yes"])
    row = {row["metric"]: row for row in metric_rows(data, ["no", "yes"], seed=0)}[area]
    assert all(np.isnan(row[key]) for key in ("value", "ci_low", "ci_high")) and row["n"] == 3


def test_auroc_is_empty_without_scores_and_refused_with_some() -> None:
    data, labels = random_frame(20, 2, seed=0)
    columns = [f"score:{label}" for label in labels]
    bare = data.drop(columns=[*columns, "score"])
    values = point_values(read_answers(bare, labels))
    assert all(np.isnan(values[metric]) for metric in ("auroc", "auprc", "ece")) and values["mcc"] > 0
    data.loc[7, columns[0]] = np.nan
    with pytest.raises(InputError, match="'q7' has no finite score"):
        metric_rows(data, labels, seed=0)


def test_saturated_probabilities_still_rank_by_log_odds() -> None:
    scores = np.array([[-100.0, 0.0], [-50.0, 0.0], [0.0, -50.0], [0.0, -100.0]])
    data = frame([1, 1, 1, 0], [1, 1, 0, 0], scores, ["no", "yes"]).assign(score=[1.0, 1.0, 0.0, 0.0])
    assert point_values(read_answers(data, ["no", "yes"]))["auroc"] == 1.0
    only_probability = data.drop(columns=["score:no", "score:yes"])
    assert point_values(read_answers(only_probability, ["no", "yes"]))["auroc"] == pytest.approx(2.5 / 3)


def intervals(right: int, unparsed: int, n: int) -> dict[str, tuple[float, float]]:
    predicted = [1] * right + [2] * unparsed + [0] * (n - right - unparsed)
    data = frame([1] * n, predicted, np.zeros((n, 2)), ["no", "yes"])
    return {row["metric"]: (row["ci_low"], row["ci_high"]) for row in metric_rows(data, ["no", "yes"], 3, 200)}


def test_shares_of_answers_have_wilsons_interval() -> None:
    by_metric = intervals(right=290, unparsed=8, n=300)
    for metric, (count, n) in {"accuracy": (290, 300), "unparsable": (8, 300), "accuracy_parsed": (290, 292)}.items():
        theirs = binomtest(count, n).proportion_ci(method="wilson")
        assert by_metric[metric] == pytest.approx((theirs.low, theirs.high)), metric


def test_all_right_is_not_certain() -> None:
    by_metric = intervals(right=50, unparsed=0, n=50)
    assert by_metric["accuracy"] == (pytest.approx(50 / (50 + 1.96**2), abs=1e-4), 1.0)
    assert by_metric["unparsable"][0] == 0.0 < by_metric["unparsable"][1]


def test_the_other_metrics_keep_the_bootstraps() -> None:
    data, labels = random_frame(120, 3, seed=7)
    rows = {row["metric"]: row for row in metric_rows(data, labels, seed=3, resamples=200)}
    values = bootstrap_values(read_answers(data, labels), 3, 200)
    for metric in ("balanced_accuracy", "macro_f1", "auroc", "auprc", "mcc", "ece", "macro_f1_parsed"):
        low, high = np.percentile(values[metric], [2.5, 97.5])
        assert (rows[metric]["ci_low"], rows[metric]["ci_high"]) == pytest.approx((low, high)), metric


def test_same_seed_same_interval_other_seed_other() -> None:
    data, labels = random_frame(50, 3, seed=2)
    assert metric_rows(data, labels, seed=1) == metric_rows(data, labels, seed=1)
    assert metric_rows(data, labels, seed=1) != metric_rows(data, labels, seed=2)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(6, 40), classes=st.integers(2, 3), seed=st.integers(0, 999))
def test_values_are_rates_and_intervals_are_ordered(n: int, classes: int, seed: int) -> None:
    data, labels = random_frame(n, classes, seed)
    for row in metric_rows(data, labels, seed, resamples=200):
        least = -1 if row["metric"] == "mcc" else 0
        assert least <= row["ci_low"] <= row["ci_high"] <= 1 and least <= row["value"] <= 1
        assert row["n"] == (data["prediction"].ne("").sum() if str(row["metric"]).endswith("_parsed") else n)


@settings(max_examples=40, deadline=None)
@example(n=55, classes=3, seed=1276, decimals=0)  # equal scores: a confidence of 1/3, at the edge of a bin
@given(n=st.integers(8, 60), classes=st.integers(2, 4), seed=st.integers(0, 9999), decimals=st.sampled_from([0, 6]))
def test_any_predictions_give_scikit_learns_values(n: int, classes: int, seed: int, decimals: int) -> None:
    data, labels = random_frame(n, classes, seed, decimals)
    answers = read_answers(data, labels)
    raw = data[[f"score:{label}" for label in labels]].to_numpy()
    expected = sklearn_values(answers.truth, answers.predicted, raw, classes)
    for metric, value in point_values(answers).items():
        assert value == pytest.approx(expected[metric], abs=1e-9, nan_ok=True), metric


@pytest.mark.parametrize("classes", [3, 5])
def test_equally_likely_labels_share_a_bin_whatever_their_scores(classes: int) -> None:
    labels = [f"class {i}" for i in range(classes)]
    levels = np.random.default_rng(0).normal(scale=20, size=60)
    truth = np.arange(60) % classes
    data = frame(list(truth), [0] * 60, np.tile(levels[:, None], (1, classes)), labels)
    assert point_values(read_answers(data, labels))["ece"] == pytest.approx(0, abs=1e-9)  # right 1 time in `classes`


def test_the_order_of_the_metrics_is_fixed() -> None:
    data, labels = random_frame(20, 2, seed=0)
    names = [row["metric"] for row in metric_rows(data, labels, seed=0, resamples=5)]
    assert names == list(METRICS) == list(point_values(read_answers(data, labels)))
    assert names[:5] == ["accuracy", "balanced_accuracy", "macro_f1", "auroc", "unparsable"]
    assert names[5:] == ["auprc", "mcc", "ece", "accuracy_parsed", "macro_f1_parsed"]


def test_the_papers_convention_leaves_unparsable_answers_out() -> None:
    data = frame([0, 0, 1, 1, 1], [0, 2, 1, 0, 2], np.zeros((5, 2)), ["no", "yes"])
    values = {row["metric"]: row["value"] for row in metric_rows(data, ["no", "yes"], seed=0, resamples=10)}
    assert values["accuracy"] == 2 / 5 and values["accuracy_parsed"] == 2 / 3
    # no: right 1 of 1, given 2; yes: right 1 of 2, given 1
    assert values["macro_f1_parsed"] == pytest.approx((2 * 1 / (1 + 2) + 2 * 1 / (2 + 1)) / 2)
    assert values["macro_f1"] == pytest.approx((2 * 1 / (2 + 2) + 2 * 1 / (3 + 1)) / 2)


def test_nothing_parsed_is_zero_in_the_headline_and_empty_beside_it() -> None:
    data = frame([0, 1], [2, 2], np.zeros((2, 2)), ["no", "yes"])
    values = {row["metric"]: row["value"] for row in metric_rows(data, ["no", "yes"], seed=0, resamples=10)}
    assert values["accuracy"] == values["macro_f1"] == values["mcc"] == 0 and values["unparsable"] == 1
    assert np.isnan(values["accuracy_parsed"]) and np.isnan(values["macro_f1_parsed"])


def test_correlation_by_hand() -> None:
    data = frame([1] * 6 + [0] * 4, [1] * 5 + [0] + [0] * 2 + [1] * 2, np.zeros((10, 2)), ["no", "yes"])
    expected = (5 * 2 - 2 * 1) / np.sqrt((5 + 2) * (5 + 1) * (2 + 2) * (2 + 1))  # tp 5, tn 2, fp 2, fn 1
    answers = read_answers(data, ["no", "yes"])
    assert point_values(answers)["mcc"] == pytest.approx(expected)
    assert resampled_values(answers, np.ones((1, 10)))["mcc"][0] == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.90, 0.92, 0.60, 0.60])  # two bins: (13/15, 14/15] and (8/15, 9/15]
    scores = np.log(np.column_stack([1 - confidence, confidence]))
    data = frame([1, 0, 1, 1], [1, 1, 1, 1], scores, ["no", "yes"])
    expected = 0.5 * abs(1 / 2 - 0.91) + 0.5 * abs(1 - 0.6)
    assert point_values(read_answers(data, ["no", "yes"]))["ece"] == pytest.approx(expected)
    only_probability = data.assign(score=confidence).drop(columns=["score:no", "score:yes"])
    assert point_values(read_answers(only_probability, ["no", "yes"]))["ece"] == pytest.approx(expected)


def test_a_calibrated_model_has_a_small_error_and_a_boastful_one_a_large_one() -> None:
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.5, 1, 20_000)
    truth = np.where(rng.random(20_000) < chance, 1, 0)

    def error(probability: np.ndarray) -> float:
        scores = np.log(np.column_stack([1 - probability, probability]))
        return point_values(read_answers(frame(list(truth), [1] * 20_000, scores, ["no", "yes"]), ["no", "yes"]))["ece"]

    assert error(chance) < 0.02
    assert error(np.full(20_000, 0.999)) == pytest.approx(0.249, abs=0.01)


def test_saturated_probabilities_are_certain() -> None:
    scores = np.array([[-800.0, 0.0], [0.0, -800.0]])
    data = frame([1, 0], [1, 0], scores, ["no", "yes"])
    assert point_values(read_answers(data, ["no", "yes"]))["ece"] == 0.0


def test_chunks_hold_every_resample_and_every_draw() -> None:
    chunks = list(draw_counts(10, seed=0, resamples=23, entries=70))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 2]
    assert all((chunk.sum(axis=1) == 10).all() for chunk in chunks)
    data, labels = random_frame(10, 2, seed=1)
    assert all(len(draws) == 23 for draws in bootstrap_values(read_answers(data, labels), 0, 23, 70).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="prediction"), "lack the column"),
        (lambda f: f.iloc[:0], "empty"),
        (lambda f: f.assign(label="maybe"), "'q0': label 'maybe'"),
        (lambda f: f.assign(prediction="perhaps"), "prediction 'perhaps'"),
        (lambda f: f.assign(label=""), "label '' is not a label"),
        (lambda f: f.assign(**{name: np.inf for name in f if name.startswith("score")}), "no finite score"),
    ],
)
def test_bad_frames_are_refused_by_name(change, message: str) -> None:
    data, labels = random_frame(10, 2, seed=0)
    with pytest.raises(InputError, match=message):
        metric_rows(change(data), labels, seed=0)


def test_a_thousand_resamples_of_a_thousand_examples_are_quick() -> None:
    data, labels = random_frame(1000, 2, seed=0)
    durations = []
    for _ in range(3):
        start = time.process_time()
        metric_rows(data, labels, seed=0)
        durations.append(time.process_time() - start)
    assert min(durations) < 0.3
