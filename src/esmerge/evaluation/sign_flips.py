"""Is a sum of differences larger than fair coins would make it? Each keeps its size, a coin gives its sign."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

NEGLIGIBLE = 1e-60
LONGEST = 100_000  # largest sum of whole weights whose distribution is worked out
DRAWS = 100_000  # of all coins, where it is not
DIGITS = 9  # behind the point, to which weighed differences are told apart


def sets_sign_flip_p(signed: NDArray[np.int64], clusters: NDArray[np.int64], sets: NDArray[np.int64]) -> float:
    """The test of ``sign_flip_p`` for the mean of the means of several sets, each of which counts equally.

    An answer of a set of m weighs 1/m, times their least common multiple: whole weights, all 1 where sets are equally
    large. The test is exact unless the distribution of their sum is too long: then it is drawn, with a fixed seed. The
    observed sum counts as one of the draws, so that p is never 0.

    Args:
        signed: (n,) difference of each answer, -1, 0 or 1.
        clusters: (n,) number of each answer's cluster, which has one coin; from 0 without a gap.
        sets: (n,) number of each answer's set, from 0 without a gap.
    """
    sizes = np.bincount(sets)
    multiple = math.lcm(*sizes.tolist())
    weights = [multiple // size for size in sizes.tolist()]
    disagreements = np.bincount(sets, weights=np.abs(signed))
    longest = sum(weight * int(count) for weight, count in zip(weights, disagreements, strict=True))
    if max(weights) == 1 or longest <= LONGEST:
        weighed = signed * np.array(weights, dtype=np.int64)[sets]
        return sign_flip_p(np.bincount(clusters, weights=weighed).astype(np.int64))
    shares = (sizes.max() / sizes)[sets]
    return drawn_sign_flip_p(np.bincount(clusters, weights=signed * shares).astype(np.float64))


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


def drawn_sign_flip_p(differences: NDArray[np.float64], draws: int = DRAWS) -> float:
    """``sign_flip_p`` of differences of any size, from draws of all coins: ``(1 + as extreme) / (1 + draws)``."""
    differences = np.round(differences, DIGITS)
    sizes, numbers = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    rng, sums = np.random.default_rng(0), np.zeros(draws)
    for size, number in zip(sizes, numbers, strict=True):
        sums += size * (2 * rng.binomial(number, 0.5, size=draws) - number)
    rounding = 10.0**-DIGITS * (1 + len(differences))  # sums that differ by no more are equal
    return float((1 + (np.abs(sums) >= abs(differences.sum()) - rounding).sum()) / (1 + draws))


def _stretched_convolution(a: NDArray[np.float64], b: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """``np.convolve(a, c)`` where c holds b at every ``stride``-th place and zeros between."""
    convolved = np.zeros(len(a) + stride * (len(b) - 1))
    for start in range(min(stride, len(a))):
        part = np.convolve(a[start::stride], b)
        convolved[start : start + stride * len(part) : stride] = part
    return convolved
