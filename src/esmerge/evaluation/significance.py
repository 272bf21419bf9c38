"""Is one method better than another on the same questions? Paired bootstrap interval, exact test, Holm's correction.

Several benchmarks and seeds are pooled by stacking their predictions. An example that returns under several seeds is
one cluster: its outcomes are not independent, so the interval resamples clusters and the test flips the sign of whole
clusters. With one seed every cluster is one example and the test is McNemar's exact one. The result speaks about
new examples, given the trained models; it says nothing about models from other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

from esmerge.core.errors import InputError

KEY = ["repeat", "id"]
NEGLIGIBLE = 1e-60


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of method a minus accuracy of method b on the same n answers.

    Attributes:
        difference: in [-1, 1].
        ci_low, ci_high: 95 % percentile interval of the paired bootstrap.
        p_value: two-sided, of the exact test that right and wrong are exchangeable between a and b.
        n: answers compared.
        only_a, only_b: answers that only a, or only b, got right.
        clusters: independent questions among them; one may return under several seeds.
        null_error: standard error of the difference if a and b were equally good.
    """

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int
    only_a: int
    only_b: int
    clusters: int
    null_error: float


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, seed: int, resamples: int = 10_000) -> PairedDifference:
    """Compare two methods answer by answer.

    Args:
        a, b: predictions (``id, label, prediction``) of one benchmark, or of several from ``stack_predictions``; in any
            order.
        seed: fixes the resamples.
        resamples: number of bootstrap resamples.

    Raises:
        InputError: the ids or the labels of a and b differ; the message names the first that does.
    """
    outcome_a, outcome_b = _outcomes(a, "the first"), _outcomes(b, "the second")
    _check_same(outcome_a, outcome_b)
    signed = outcome_a["right"].astype(int) - outcome_b["right"].astype(int)  # aligned by index
    clusters, _ = pd.factorize(signed.index.get_level_values("id"))
    return signed_difference(np.asarray(signed, dtype=np.int64), clusters.astype(np.int64), seed, resamples)


def signed_difference(
    signed: NDArray[np.int64], clusters: NDArray[np.int64], seed: int, resamples: int = 10_000
) -> PairedDifference:
    """The comparison once it is known who was right.

    Args:
        signed: (n,) 1 where a alone was right, -1 where b alone was, else 0.
        clusters: (n,) number of the question that each answer is to, from 0 without a gap.
        seed: fixes the resamples.
        resamples: number of bootstrap resamples.
    """
    sums, sizes = np.bincount(clusters, weights=signed).astype(np.int64), np.bincount(clusters)
    low, high = _interval(np.column_stack([sums, sizes]), seed, resamples)
    return PairedDifference(
        difference=float(signed.mean()),
        ci_low=low,
        ci_high=high,
        p_value=sign_flip_p(sums),
        n=len(signed),
        only_a=int((signed > 0).sum()),
        only_b=int((signed < 0).sum()),
        clusters=len(sums),
        null_error=float(np.sqrt((sums**2).sum()) / len(signed)),
    )


def stack_predictions(parts: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Pool predictions keyed by (seed, benchmark); examples of different benchmarks keep different ids."""
    if not parts:
        raise InputError("there are no predictions to pool: expected at least one benchmark")
    frames = [
        frame[["label", "prediction"]].assign(id=[f"{benchmark}/{i}" for i in frame["id"]], repeat=seed)
        for (seed, benchmark), frame in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def sign_flip_p(differences: NDArray[np.int64]) -> float:
    """Exact two-sided p of ``|Σ ± d_c| >= |Σ d_c|`` when every cluster's sign is a fair coin.

    The null distribution of the sum is the convolution of one binomial per size of |d|; if all |d| are 0 or 1, it is
    McNemar's exact test. Where there are several sizes, tails below ``NEGLIGIBLE`` are left out, which keeps thousands
    of clusters quick.
    """
    sizes, numbers = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    distribution, reach = np.ones(1), 0  # probabilities of the sum, from -reach to reach
    for size, number in zip(sizes, numbers, strict=True):
        step = binom.pmf(np.arange(number + 1), number, 0.5)
        if len(sizes) > 1:
            step = step[step >= NEGLIGIBLE]  # symmetric, so that the middle stays in the middle
        distribution = _stretched_convolution(distribution, step, 2 * int(size))
        reach += int(size) * (len(step) - 1)
    extreme = np.abs(np.arange(-reach, reach + 1)) >= abs(int(differences.sum()))
    return float(min(1.0, distribution[extreme].sum()))


def _stretched_convolution(a: NDArray[np.float64], b: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """``np.convolve(a, c)`` where c holds b at every ``stride``-th place and zeros between."""
    convolved = np.zeros(len(a) + stride * (len(b) - 1))
    for start in range(min(stride, len(a))):
        part = np.convolve(a[start::stride], b)
        convolved[start : start + stride * len(part) : stride] = part
    return convolved


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given: compare each adjusted value with the level itself."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def _outcomes(predictions: pd.DataFrame, which: str) -> pd.DataFrame:
    """Label and right-or-wrong, indexed by (repeat, id)."""
    frame = predictions if "repeat" in predictions else predictions.assign(repeat="")
    frame = frame.assign(id=frame["id"].astype(str), right=frame["label"] == frame["prediction"]).set_index(KEY)
    if frame.empty:
        raise InputError(f"{which} method has no predictions: expected at least one")
    doubled = frame.index[frame.index.duplicated()]
    if len(doubled):
        raise InputError(f"{which} method answers example {doubled[0][1]!r} twice: expected each id once")
    return frame[["label", "right"]]


def _check_same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    for present, compared, side in ((a, b, "second"), (b, a, "first")):
        missing = present.index.difference(compared.index, sort=False)
        if len(missing):
            raise InputError(
                f"example {missing[0][1]!r} was not answered by the {side} method: a paired comparison needs the "
                "same examples for both; run both with the same benchmark, limit and seed"
            )
    labels = b.loc[a.index, "label"].to_numpy()
    differs = np.flatnonzero(a["label"].to_numpy() != labels)
    if len(differs):
        at = int(differs[0])
        raise InputError(
            f"example {a.index[at][1]!r} has label {a['label'].iloc[at]!r} in the first and {labels[at]!r} in the "
            "second method: the two were asked different questions"
        )


def _interval(clusters: NDArray[np.int64], seed: int, resamples: int) -> tuple[float, float]:
    """Percentile interval of Σ sum / Σ size. Equal clusters are drawn together, by one multinomial.

    clusters: (k, 2) sum and size of each.
    """
    width = int(clusters[:, 1].max()) + 1
    codes, numbers = np.unique(clusters[:, 0] * width + clusters[:, 1], return_counts=True)  # in the order of the pairs
    kinds = np.column_stack([codes // width, codes % width])
    counts = np.random.default_rng(seed).multinomial(numbers.sum(), numbers / numbers.sum(), size=resamples)
    low, high = np.percentile((counts @ kinds[:, 0]) / (counts @ kinds[:, 1]), [2.5, 97.5])
    return float(low), float(high)
