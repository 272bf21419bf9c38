from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import ConfigError, InputError
from src.tasks.splits import check_disjoint, hashed_sides, quotas, sample

KEYS = pd.Series([f"key{number}" for number in range(5000)])


def test_shares_come_out_as_asked() -> None:
    shares = hashed_sides(KEYS, 0, 0.1, 0.2).value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.03)
    assert shares["validation"] == pytest.approx(0.1, abs=0.03)
    assert shares["test"] == pytest.approx(0.2, abs=0.03)


def test_a_key_has_one_side_in_any_table() -> None:
    whole = dict(zip(KEYS, hashed_sides(KEYS, 1, 0.1, 0.2), strict=True))
    part = pd.concat([KEYS[4000:], KEYS[:10], KEYS[:10]])
    assert list(hashed_sides(part, 1, 0.1, 0.2)) == [whole[key] for key in part]


def test_another_seed_is_another_split() -> None:
    assert (hashed_sides(KEYS, 0, 0.1, 0.2) != hashed_sides(KEYS, 1, 0.1, 0.2)).mean() > 0.3


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.2), (0.5, 0.5), (-0.1, 0.2), (0.1, 1.0)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        hashed_sides(KEYS, 0, validation, test)


def test_a_shared_key_is_found() -> None:
    frame = pd.DataFrame({"molecule": ["C", "CC", "C"], "side": ["train", "test", "test"]})
    with pytest.raises(InputError, match="1 molecule.*'C'"):
        check_disjoint(frame, "molecule", "toy")
    check_disjoint(frame[1:], "molecule", "toy")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 100), st.integers(0, 5))
def test_a_sample_keeps_proportions_within_one(labels: list[int], limit: int, seed: int) -> None:
    frame = pd.DataFrame({"answer": labels, "id": range(len(labels))})
    taken = sample(frame, limit, seed, "test")
    assert len(taken) == min(limit, len(labels))
    assert list(taken["id"]) == sorted(set(taken["id"]))
    share = min(1.0, limit / len(labels))
    found = Counter(taken["answer"])
    assert all(abs(found[label] - count * share) < 1 for label, count in Counter(labels).items())
    assert taken.equals(sample(frame, limit, seed, "test"))


def test_no_limit_is_everything_and_seeds_differ() -> None:
    frame = pd.DataFrame({"answer": [0, 1] * 50})
    assert sample(frame, None, 0, "test").equals(frame)
    drawn = [tuple(sample(frame, 10, seed, "test").index) for seed in range(3)]
    assert len(set(drawn)) == 3


def test_quotas_round_the_largest_remainder_up() -> None:
    # 68 : 22 : 10 of 10 are 6.8, 2.2 and 1.0; the one place left goes to 6.8
    assert quotas(pd.Series([0] * 68 + [1] * 22 + [2] * 10), 10) == {0: 7, 1: 2, 2: 1}
