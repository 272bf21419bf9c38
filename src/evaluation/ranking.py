"""How well scores rank: areas under curves, one class against the rest, as scikit-learn defines them.

Under example counts, every resample of a bootstrap is one row, and all rows are worked out at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from src.evaluation.answers import Answers, Floats

AREAS: dict[str, Callable[..., float]] = {"auroc": roc_auc_score, "auprc": average_precision_score}


def area_points(answers: Answers) -> dict[str, float]:
    """Each area on all examples: of the positive class of a binary set, the mean over classes otherwise.

    NaN without scores, or where the examples hold one class only.
    """
    columns = _ranked_classes(answers)
    if answers.scores is None or not len(columns):
        return dict.fromkeys(AREAS, float("nan"))
    pairs = [(answers.truth == index, answers.scores[:, index]) for index in columns]
    return {name: float(np.mean([area(*pair) for pair in pairs])) for name, area in AREAS.items()}


def resampled_areas(answers: Answers, counts: Floats) -> dict[str, Floats]:
    """The same under example counts; ``counts``: (R, n). Returns (R,) per area, NaN where a resample has one class."""
    columns = _ranked_classes(answers)
    if answers.scores is None or not len(columns):
        return {name: np.full(len(counts), np.nan) for name in AREAS}
    each = [_one_against_rest(answers.scores[:, index], answers.truth == index, counts) for index in columns]
    return {name: _mean_of_known(np.stack([areas[name] for areas in each])) for name in AREAS}


def _one_against_rest(scores: Floats, positive: NDArray[np.bool_], counts: Floats) -> dict[str, Floats]:
    """AUROC, the share of (positive, negative) pairs ranked rightly, ties counting one half; and average precision.

    Args:
        scores: (n,).
        positive: (n,).
        counts: (R, n).
    """
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])  # where each group of equal scores begins
    drawn = counts[:, order]
    up = drawn * positive[order]
    if len(starts) < len(order):
        drawn, up = np.add.reduceat(drawn, starts, axis=1), np.add.reduceat(up, starts, axis=1)
    above, seen = np.cumsum(up, axis=1), np.cumsum(drawn, axis=1)
    positives, total = above[:, -1], seen[:, -1]
    pairs = positives * (total - positives)
    better = np.einsum("rk,rk->r", drawn - up, above - 0.5 * up)
    np.maximum(seen, 1.0, out=seen)  # nothing was drawn so far, so nothing is added either
    precise = np.einsum("rk,rk,rk->r", up, above, 1.0 / seen)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = {"auroc": better / pairs, "auprc": precise / positives}
    return {name: np.where(pairs > 0, values, np.nan) for name, values in areas.items()}


def _mean_of_known(values: Floats) -> Floats:
    """Mean over the classes whose area is known; (C, R) -> (R,)."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)


def _ranked_classes(answers: Answers) -> NDArray[Any]:
    """Classes with positives and negatives: all of them one-vs-rest, the positive one only for a binary set."""
    candidates = np.array([1]) if answers.classes == 2 else np.arange(answers.classes)
    share = np.array([np.mean(answers.truth == index) for index in candidates])
    return candidates[(share > 0) & (share < 1)]
