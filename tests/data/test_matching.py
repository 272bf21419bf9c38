"""Matched choices of rows, against every choice that there is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from esmerge.data.matching import matched_rows, split_into_cycles


def table(seed: int, molecules: int, partners: int, share: float = 0.7) -> pd.DataFrame:
    """Random answers of ``share`` of all pairs."""
    rng = np.random.default_rng(seed)
    rows = [(f"m{m}", f"p{p}", int(rng.random() < 0.4)) for m in range(molecules) for p in range(partners)]
    frame = pd.DataFrame(rows, columns=["left", "right", "answer"])
    return frame[rng.random(len(frame)) < share].reset_index(drop=True)


def is_matched(rows: pd.DataFrame) -> bool:
    """As many yes as no for every entity."""
    sign = 2 * rows["answer"] - 1
    return all((sign.groupby(rows[side]).sum() == 0).all() for side in ("left", "right"))


def largest(frame: pd.DataFrame, pairs: int | None) -> int:
    """The size of the largest matched choice, by trying all."""
    for size in range(len(frame), 0, -1):
        for choice in combinations(range(len(frame)), size):
            rows = frame.iloc[list(choice)]
            if is_matched(rows) and (pairs is None or rows.groupby("left")["answer"].sum().max() <= pairs):
                return size
    return 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pairs", [1, None])
def test_a_choice_is_matched_and_the_largest(seed: int, pairs: int | None) -> None:
    frame = table(seed, 4, 3, 0.9)
    rows = frame.iloc[matched_rows(frame, 0, pairs)]
    assert is_matched(rows) and len(rows) == largest(frame, pairs)
    assert rows.index.is_unique


def test_bounds_hold_for_either_side() -> None:
    frame = table(1, 60, 5)
    rows = frame.iloc[matched_rows(frame, 0, 1, 4)]
    assert is_matched(rows) and len(rows) > 20
    assert rows.groupby("left")["answer"].sum().max() == 1 and rows.groupby("right")["answer"].sum().max() == 4
    assert len(matched_rows(frame, 0, 2)) > len(matched_rows(frame, 0, 1)) > len(rows)


@pytest.mark.parametrize("limit", [2, 6, 20])
def test_the_first_rows_are_whole_pairs(limit: int) -> None:
    frame = table(2, 60, 5)
    rows = frame.iloc[matched_rows(frame, 0)[:limit]]
    assert len(rows) == limit and (rows.groupby("left")["answer"].agg(["sum", "size"]) == [1, 2]).all(axis=None)
    assert (2 * rows["answer"] - 1).groupby(rows["right"]).sum().abs().max() <= 1


def test_the_choice_depends_on_content_and_seed() -> None:
    frame = table(3, 60, 5)
    shuffled = frame.sample(frac=1, random_state=0)

    def choice(rows: pd.DataFrame, seed: int) -> set[tuple[str, ...]]:
        return set(map(tuple, rows.iloc[matched_rows(rows, seed)].astype(str).to_numpy()))

    assert choice(frame, 0) == choice(shuffled, 0) != choice(frame, 1)


def test_without_a_match_nothing_is_chosen() -> None:
    frame = pd.DataFrame({"left": ["a", "a", "b"], "right": ["p", "q", "p"], "answer": [1, 0, 1]})
    assert matched_rows(frame, 0) == matched_rows(frame.iloc[:0], 0) == []


def test_cycles_hold_every_row_once_and_each_is_matched() -> None:
    frame = table(4, 40, 6)
    rows = frame.iloc[matched_rows(frame, 0, None)].reset_index(drop=True)
    cycles = split_into_cycles(
        pd.factorize(rows["left"])[0], pd.factorize(rows["right"])[0], rows["answer"].to_numpy() == 1
    )
    assert sorted(index for cycle in cycles for index in cycle) == list(range(len(rows))) and len(cycles) > 5
    for cycle in cycles:
        part = rows.iloc[cycle]
        assert is_matched(part) and part["answer"].tolist() == [0, 1] * (len(part) // 2)
        assert part.groupby("left").size().max() == part.groupby("right").size().max() == 2
