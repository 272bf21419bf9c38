"""How well scores rank: areas under curves, one class against the rest, as scikit-learn defines them.

Under example counts, every resample of a bootstrap is one row, and many rows are worked out at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esmerge.evaluation.answers import Answers, Floats

AREAS = ("auroc", "auprc")
ROWS = 200  # resamples that are worked out at once: what they need stays in the processor's cache


def resampled_areas(answers: Answers, counts: Floats) -> dict[str, Floats]:
    """Each area under example counts: of the positive class of a binary set, the mean over classes otherwise.

    Args:
        counts: (R, n) how often each example is in each sample.

    Returns:
        (R,) per name in ``AREAS``; NaN without scores, or where a sample has one class only.
    """
    columns = _ranked_classes(answers)
    if answers.scores is None or not len(columns):
        return {name: np.full(len(counts), np.nan) for name in AREAS}
    whole_counts = counts.astype(np.int32)  # whole numbers; a third of the time that float64 takes
    areas_by_class = [_areas(answers.scores[:, index], answers.truth == index, whole_counts) for index in columns]
    return {name: _mean_of_finite(np.stack([areas[name] for areas in areas_by_class])) for name in AREAS}


def _areas(scores: Floats, positive: NDArray[np.bool_], counts: NDArray[np.int32]) -> dict[str, Floats]:
    """Both areas of one class against the rest, (R,) each, some samples at a time."""
    blocks = [counts[start : start + ROWS] for start in range(0, len(counts), ROWS)]
    parts = [_one_against_rest(scores, positive, block) for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in AREAS}


def _one_against_rest(scores: Floats, positive: NDArray[np.bool_], counts: NDArray[np.int32]) -> dict[str, Floats]:
    """AUROC, the share of (positive, negative) pairs ranked rightly, ties counting one half; and average precision.

    Both are sums over the groups of equal scores that hold a positive, G of them, best first.

    Args:
        scores: (n,).
        positive: (n,).
        counts: (R, n) how often each example is in each resample.
    """
    order = np.argsort(-scores, kind="stable")
    positions = np.flatnonzero(positive[order])
    first, last, ends = _groups(scores[order], positions)
    up, to_here = _sums_at(_columns(counts, order[positions]), ends)  # positives in each group, and from the best to it
    counts_so_far = np.cumsum(_columns(counts, order), axis=1, dtype=np.int32)
    end = _columns(counts_so_far, last - 1).astype(np.float64)
    start = np.where(first > 0, _columns(counts_so_far, first - 1), 0.0)
    positives, negatives = to_here[:, -1], counts_so_far[:, -1] - to_here[:, -1]
    ahead = 0.5 * ((end - to_here) + (start - (to_here - up)))  # negatives ranked higher, those that tie by half
    better = positives * negatives - np.einsum("rg,rg->r", up, ahead)
    np.maximum(end, 1.0, out=end)  # nothing was drawn so far, so nothing is added either
    precise = np.einsum("rg,rg->r", up, to_here / end)
    pairs = positives * negatives
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = {"auroc": better / pairs, "auprc": precise / positives}
    return {name: np.where(pairs > 0, values, np.nan) for name, values in areas.items()}


def _groups(ranked: Floats, positions: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The groups of equal scores that hold a positive.

    Args:
        ranked: (n,) scores, best first.
        positions: (P,) of the positives among them.

    Returns:
        (G,) each: a group's first position, the position after its last, and how many positives come before that.
    """
    values = -ranked[positions]
    ends = np.flatnonzero(np.r_[np.diff(values) != 0, True]) + 1
    sought = values[ends - 1]
    return np.searchsorted(-ranked, sought, side="left"), np.searchsorted(-ranked, sought, side="right"), ends


def _sums_at(values: NDArray[np.int32], ends: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Sums of each group of columns, and from the first column to the group's end; (R, P) -> (R, G) each."""
    to_here = _columns(np.cumsum(values, axis=1, dtype=np.int32), ends - 1).astype(np.float64)
    return np.diff(to_here, axis=1, prepend=0.0), to_here


def _columns(values: NDArray[np.int32], positions: NDArray[np.intp]) -> NDArray[np.int32]:
    """The columns at some positions, row by row in memory, in which sums along rows are several times quicker."""
    return np.take(values, positions, axis=1)


def _mean_of_finite(values: Floats) -> Floats:
    """Mean over the classes whose area is defined; (C, R) -> (R,)."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        counts = np.where(finite.any(axis=0), finite.sum(axis=0), np.nan)
        means: Floats = np.where(finite, values, 0.0).sum(axis=0) / counts
    return means


def _ranked_classes(answers: Answers) -> NDArray[np.int_]:
    """Classes with positives and negatives: all of them one-vs-rest, the positive one only for a binary set."""
    candidates = np.array([1]) if answers.classes == 2 else np.arange(answers.classes)
    share = np.array([np.mean(answers.truth == index) for index in candidates])
    return candidates[(share > 0) & (share < 1)]
