"""Floors that learn: against scikit-learn used directly, and what they can and cannot find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix, hstack
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MaxAbsScaler
from tests.baselines.toys import ALCOHOLS, AMINES, LABELS, accuracy, benchmark, by_drug, by_pairing, example, predict

from esmerge.baselines.api import FLOORS
from esmerge.core.errors import NotApplicable
from esmerge.core.prompts import Benchmark, Entity
from esmerge.core.rng import generator
from esmerge.data.molecules import fingerprint
from esmerge.evaluation.metrics import metric_rows

LEARNED = ("logistic_regression", "random_forest", "neural_network")


def noisy() -> Benchmark:
    """``by_drug`` with every seventh answer turned, so that probabilities are not 0 and 1."""
    dataset = by_drug()
    train = [replace(row, answer=1 - row.answer) if n % 7 == 0 else row for n, row in enumerate(dataset.train)]
    return replace(dataset, train=tuple(train))


def by_hand(dataset: Benchmark) -> tuple[csr_matrix, csr_matrix, list[int]]:
    """Features without this project's own code but RDKit's fingerprint."""
    vectorizer = CountVectorizer(analyzer="char", ngram_range=(3, 3), lowercase=False)
    sides = (dataset.train, dataset.test)
    bits = [csr_matrix([fingerprint(row.entities("molecule")[0].value) for row in side]) for side in sides]
    texts = [[row.entities("protein")[0].value for row in side] for side in sides]
    counts = [vectorizer.fit_transform(texts[0]), vectorizer.transform(texts[1])]
    train, test = (hstack(parts).tocsr() for parts in zip(bits, counts, strict=True))
    return train, test, [row.answer for row in dataset.train]


def pairs(tails: tuple[str, ...] = ("O", "N")) -> Benchmark:
    """Two drugs: the answer says whether they have the same end."""
    lengths = range(2, 9)
    combinations = [(a, b, s, t) for a in lengths for b in lengths for s in tails for t in tails]
    rows = [
        example(str(n), [Entity("molecule", "C" * a + s), Entity("molecule", "C" * b + t)], int(s == t))
        for n, (a, b, s, t) in enumerate(combinations)
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    return benchmark([rows[n] for n in order[:140]], [rows[n] for n in order[140:]])


def test_logistic_regression_is_scikit_learns() -> None:
    dataset = noisy()
    train, test, answers = by_hand(dataset)
    scale = MaxAbsScaler().fit(train)
    model = LogisticRegression(C=0.3, max_iter=2000).fit(scale.transform(train), answers)
    expected = model.predict_proba(scale.transform(test))[:, 1]
    assert np.allclose(predict("logistic_regression", dataset, c=0.3)["score"], expected, rtol=1e-6)
    assert not np.allclose(predict("logistic_regression", dataset)["score"], expected, rtol=1e-3)


def test_random_forest_is_scikit_learns() -> None:
    dataset = noisy()
    train, test, answers = by_hand(dataset)
    draw = int(generator(4, f"random_forest-{dataset.name}").integers(2**31))
    model = RandomForestClassifier(20, min_samples_leaf=2, random_state=draw).fit(train, answers)
    frame = predict("random_forest", dataset, seed=4, trees=20, min_leaf=2)
    assert np.allclose(frame["score"], model.predict_proba(test)[:, 1])


def test_a_forest_finds_the_pairing_that_single_entities_do_not_tell() -> None:
    dataset = by_pairing()
    assert accuracy(predict("random_forest", dataset, trees=100)) >= 0.95
    for blind in ("drug_only", "partner_only", "logistic_regression"):
        assert accuracy(predict(blind, dataset)) == pytest.approx(0.5, abs=0.2)


def test_a_forest_finds_what_two_drugs_have_in_common() -> None:
    dataset = pairs()
    assert accuracy(predict("random_forest", dataset, trees=100)) >= 0.9
    assert accuracy(predict("logistic_regression", dataset)) >= 0.9, "the absolute difference makes sameness linear"
    assert accuracy(predict("drug_only", dataset)) <= 0.7, "sums alone do not"


def test_a_network_is_scikit_learns_and_finds_the_pairing() -> None:
    dataset = by_pairing()
    train, test, answers = by_hand(dataset)
    draw = int(generator(2, f"neural_network-{dataset.name}").integers(2**31))
    network = MLPClassifier(
        (16,), alpha=0.01, learning_rate_init=0.01, batch_size=min(256, len(answers)), max_iter=60, random_state=draw
    )
    scale = MaxAbsScaler().fit(train)
    network.fit(scale.transform(train).astype(np.float32), answers)
    settings = {"width": 16, "epochs": 60, "learning_rate": 0.01, "weight_decay": 0.01}
    frame = predict("neural_network", dataset, seed=2, **settings)
    expected = network.predict_proba(scale.transform(test).astype(np.float32))[:, 1]
    assert np.allclose(frame["score"], expected, atol=1e-5)
    assert accuracy(frame) >= 0.95


@pytest.mark.parametrize("floor", LEARNED)
def test_the_order_of_two_drugs_does_not_matter(floor: str) -> None:
    dataset = pairs()
    swapped_test = tuple(replace(row, prompt=row.prompt[::-1]) for row in dataset.test)
    swapped_train = tuple(
        replace(row, prompt=row.prompt[::-1]) if n % 2 else row for n, row in enumerate(dataset.train)
    )
    frames = [
        predict(floor, variant)
        for variant in (dataset, replace(dataset, test=swapped_test), replace(dataset, train=swapped_train))
    ]
    assert all(np.allclose(frame["score"], frames[0]["score"], atol=1e-6) for frame in frames[1:])


def test_the_seed_fixes_the_forest() -> None:
    dataset = noisy()
    first, repeat, other = (predict("random_forest", dataset, seed=seed, trees=10) for seed in (1, 1, 2))
    assert first.equals(repeat) and not first["score"].equals(other["score"])


@pytest.mark.parametrize("floor", FLOORS.names())
def test_no_floor_reads_a_test_or_validation_answer(floor: str) -> None:
    dataset = noisy()
    flipped_rows = tuple(replace(row, answer=1 - row.answer) for row in dataset.test)
    flipped = replace(dataset, test=flipped_rows, validation=flipped_rows)
    first, second = predict(floor, dataset), predict(floor, flipped)
    assert first.drop(columns="label").equals(second.drop(columns="label"))
    assert (first["label"] != second["label"]).all()


@pytest.mark.parametrize("floor", LEARNED)
def test_three_labels_are_learnt_and_ranked(floor: str) -> None:
    tails = ["O", "N", "Cl"]
    rows = [
        example(f"{tail}{n}", [Entity("molecule", "C" * n + tail)], place, labels=3)
        for n in range(2, 14)
        for place, tail in enumerate(tails)
    ]
    frame = predict(floor, benchmark(rows[:24], rows[24:]))
    metrics = {row["metric"]: row["value"] for row in metric_rows(frame, LABELS, seed=0, resamples=10)}
    assert metrics["accuracy"] == metrics["auroc"] == 1.0


@pytest.mark.parametrize("floor", LEARNED)
def test_a_label_that_training_lacks_is_never_predicted(floor: str) -> None:
    rows = [
        example(f"{n}", [Entity("molecule", smiles)], 2 * (n % 2), labels=3)
        for n, smiles in enumerate(value for pair in zip(ALCOHOLS, AMINES, strict=True) for value in pair)
    ]
    frame = predict(floor, benchmark(rows[:20], rows[20:]))
    assert set(frame["prediction"]) == {"no", "perhaps"} and accuracy(frame) == 1.0
    assert (np.exp(frame["score:yes"]) < 1e-300).all() and np.isfinite(frame["score:yes"]).all()


@pytest.mark.parametrize("floor", LEARNED)
def test_a_question_without_entities_has_no_floor(floor: str) -> None:
    rows = [replace(example(str(n), [], n % 2), prompt=("why ?",)) for n in range(4)]
    with pytest.raises(NotApplicable, match="'toy' holds no entities: no floor from entities"):
        predict(floor, benchmark(rows, rows))


def test_labels_are_named_as_the_metrics_name_them() -> None:
    dataset = replace(by_drug(), labels=(" no", " yes"))
    assert set(predict("logistic_regression", dataset)["prediction"]) == {"no", "yes"}
