"""Floor ``group_mean``: means of the same drug, protein or cell, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.baselines.toys import LABELS, benchmark, by_drug, by_pairing, example, predict

from esmerge.core.errors import ConfigError, NotApplicable
from esmerge.core.prompts import Benchmark, Entity, Example

# Drug CCO binds in 2 of 2, CCN in 1 of 3, CCC in 0 of 3; protein MKV in 3 of 4, GHW in 0 of 4; all: 3 of 8.
TRAIN = (
    ("CCO", "MKV", 1),
    ("CCO", "MKV", 1),
    ("CCN", "MKV", 1),
    ("CCN", "GHW", 0),
    ("CCN", "GHW", 0),
    ("CCC", "MKV", 0),
    ("CCC", "GHW", 0),
    ("CCC", "GHW", 0),
)


def pair(name: str, drug: str, protein: str, answer: int = 0) -> Example:
    return example(name, [Entity("molecule", drug), Entity("protein", protein)], answer)


def table(*questions: tuple[str, str]) -> Benchmark:
    train = [pair(f"a{n}", *row) for n, row in enumerate(TRAIN)]
    return benchmark(train, [pair(f"b{n}", *row) for n, row in enumerate(questions)])


def share(drug: str, protein: str, of: str, prior: float = 0.0) -> float:
    return float(predict("group_mean", table((drug, protein)), of=of, prior=prior)["score"].iloc[0])


def test_means_by_hand() -> None:
    assert share("CCN", "MKV", "molecule") == pytest.approx(1 / 3)
    assert share("CCN", "MKV", "partner") == pytest.approx(3 / 4)
    assert share("CCN", "MKV", "both") == pytest.approx(1 / 3 + 3 / 4 - 3 / 8)


def test_shares_stay_between_0_and_1() -> None:
    assert share("CCO", "MKV", "both") == 1.0  # 1 + 3/4 - 3/8 is above 1
    assert share("CCC", "GHW", "both") == 0.0


def test_the_prior_counts_as_examples_of_the_overall_share() -> None:
    assert share("CCO", "MKV", "molecule", prior=2.0) == pytest.approx((2 + 2 * 3 / 8) / (2 + 2))
    assert share("CCN", "GHW", "both", prior=1.0) == pytest.approx((1 + 3 / 8) / 4 + (0 + 3 / 8) / 5 - 3 / 8)
    assert share("CCO", "MKV", "molecule", prior=1e9) == pytest.approx(3 / 8)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_what_training_does_not_hold_falls_back_to_the_overall_share(prior: float) -> None:
    assert share("CCCCCC", "WWW", "both", prior) == pytest.approx(3 / 8)
    assert share("CCCCCC", "MKV", "both", prior) == pytest.approx(share("CCO", "MKV", "partner", prior))
    assert share("CCN", "WWW", "both", prior) == pytest.approx(share("CCN", "MKV", "molecule", prior))


def test_scores_are_log_shares_in_the_order_of_the_test_split() -> None:
    frame = predict("group_mean", table(("CCN", "MKV"), ("CCO", "WWW")), of="molecule", prior=0.0)
    assert np.exp(frame["score:yes"]).tolist() == pytest.approx([1 / 3, 1.0])
    assert frame["prediction"].tolist() == ["no", "yes"]


def test_two_drugs_each_count_whatever_their_order() -> None:
    def duo(name: str, first: str, second: str, answer: int) -> Example:
        return example(name, [Entity("molecule", first), Entity("molecule", second)], answer)

    train = [duo("a", "CCO", "CCN", 1), duo("b", "CCN", "CCC", 0), duo("c", "CCO", "CCO", 1), duo("d", "CCC", "CC", 0)]
    test = [duo("e", "CCN", "CCO", 0), duo("f", "CCO", "CCN", 0), duo("g", "CCC", "CCN", 0), duo("h", "CCN", "CN", 0)]
    frame = predict("group_mean", benchmark(train, test), prior=0.0)
    # CCO: 2 of 2 (once in the pair of itself), CCN: 1 of 2, CCC: 0 of 2; overall 1/2
    assert frame["score"].tolist() == pytest.approx([1.0, 1.0, 0.0, 0.5])


def test_three_labels_by_hand() -> None:
    drug = [Entity("molecule", "CCO")]
    train = [example(str(n), drug, answer, labels=3) for n, answer in enumerate([0, 1, 1, 2])]
    train += [example("x", [Entity("molecule", "CCN")], 0, labels=3)] * 4
    frame = predict("group_mean", benchmark(train, [example("y", drug, 0, labels=3)]), prior=0.0)
    assert np.exp(frame[[f"score:{label}" for label in LABELS]].iloc[0]).tolist() == pytest.approx(
        [1 / 4, 1 / 2, 1 / 4]
    )
    assert frame["prediction"].tolist() == ["yes"] and frame["score"].tolist() == pytest.approx([1 / 2])


def test_means_do_not_see_a_pairing() -> None:
    assert set(predict("group_mean", by_pairing(), of="molecule")["score"]) == {0.5}


def test_what_does_not_apply_says_why() -> None:
    drugs = [example(str(n), [Entity("molecule", "CCO")], n % 2) for n in range(4)]
    cells = [example(str(n), [Entity("cell", "TP53 EGFR")], n % 2) for n in range(4)]
    with pytest.raises(NotApplicable, match="'toy' has no group_mean floor: it holds molecules only"):
        predict("group_mean", benchmark(drugs, drugs), of="partner")
    with pytest.raises(NotApplicable, match="'toy' holds cell: no floor from molecule"):
        predict("group_mean", benchmark(cells, cells), of="molecule")
    assert len(predict("group_mean", benchmark(cells, cells), of="both")) == 4
    with pytest.raises(NotApplicable, match="no training examples: no group_mean floor"):
        predict("group_mean", replace(by_drug(), train=()))
    with pytest.raises(ConfigError, match="method.of='drug': expected one of molecule, partner, both"):
        predict("group_mean", by_drug(), of="drug")
