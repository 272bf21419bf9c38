"""Splits and samples, fixed by a seed and by what a row holds rather than by where it stands."""

from __future__ import annotations

import hashlib
from collections import Counter

import pandas as pd

from src.errors import ConfigError, InputError
from src.specialists.rng import generator

SIDES = ("test", "validation", "train")  # in the order in which a row that stands in several is kept


def hashed_sides(keys: pd.Series, seed: int, validation: float, test: float) -> pd.Series:
    """A side for every key: equal keys get the same one, in any table and in any order.

    Args:
        keys: (n,) text, e.g. canonical SMILES.
        validation, test: shares of the keys; the rest is for training.

    Raises:
        ConfigError: shares that leave nothing for training or are not positive.
    """
    if validation <= 0 or test <= 0 or validation + test >= 1:
        raise ConfigError(
            f"benchmark.validation_share={validation:g} and test_share={test:g} must be positive and sum to less than 1"
        )
    known = {key: _side(_uniform(f"{seed}:{key}"), validation, test) for key in keys.unique()}
    return keys.map(known)


def check_disjoint(frame: pd.DataFrame, key: str, benchmark: str) -> None:
    """Raise ``InputError`` if a key stands on several sides; ``frame`` has the columns ``key`` and ``side``."""
    sides = frame.groupby(key, sort=False)["side"].nunique()
    shared = sides[sides > 1]
    if len(shared):
        first = shared.index[0]
        raise InputError(f"benchmark {benchmark!r}: {len(shared)} {key}(s) stand in several splits, e.g. {first!r}")


def sample(frame: pd.DataFrame, limit: int | None, seed: int, stream: str) -> pd.DataFrame:
    """At most ``limit`` rows with the labels in the frame's own proportions; in the frame's order.

    Args:
        frame: rows with the column ``answer``.
        stream: names the random draw, so that splits are drawn independently.
    """
    if limit is None or limit >= len(frame):
        return frame
    order = generator(seed, stream).permutation(len(frame))
    shuffled = frame.iloc[order]
    places = shuffled.groupby("answer").cumcount()
    kept = places < shuffled["answer"].map(quotas(frame["answer"], limit))
    return frame.loc[frame.index.isin(shuffled.index[kept])]


def quotas(answers: pd.Series, limit: int) -> dict[int, int]:
    """How many of each answer make ``limit``: proportional, the largest remainders rounded up."""
    counts = Counter(int(answer) for answer in answers)
    exact = {answer: counts[answer] * limit / len(answers) for answer in sorted(counts)}
    whole = {answer: int(share) for answer, share in exact.items()}
    by_remainder = sorted(exact, key=lambda answer: whole[answer] - exact[answer])
    for answer in by_remainder[: limit - sum(whole.values())]:
        whole[answer] += 1
    return whole


def _uniform(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _side(draw: float, validation: float, test: float) -> str:
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"
