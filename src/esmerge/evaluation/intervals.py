"""Intervals of shares and of their differences that hold where nearly all answers are right, or nearly none differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.optimize import brentq
from scipy.stats import norm

EDWARDS = 1.0  # of the excess of disagreements, which moves in steps of two: the correction of McNemar's chi-squared


def wilson(right: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, ``right`` of ``n``."""
    z = float(norm.ppf((1 + confidence) / 2))
    share, scale = right / n, 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / scale
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return (middle - reach if right > 0 else 0.0), (middle + reach if right < n else 1.0)  # exact, not to rounding


def mean_of_shares(shares: Sequence[float], n: Sequence[int], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the plain mean of independent shares; of one share it is Wilson's.

    Wilson's interval of each share says how far the share may lie off on either side, and the squares of these
    distances add up (Zou, Huang and Zhang, Computational Statistics & Data Analysis 53, 2009: variance estimates
    recovered from intervals). So a mean over sets whose answers are all right still has a lower bound below 1.

    Args:
        shares: (k,) each in [0, 1].
        n: (k,) answers behind each.
    """
    bounds = [wilson(share * count, count, confidence) for share, count in zip(shares, n, strict=True)]
    below = math.hypot(*(share - low for share, (low, _) in zip(shares, bounds, strict=True)))
    above = math.hypot(*(high - share for share, (_, high) in zip(shares, bounds, strict=True)))
    k, mean = len(shares), math.fsum(shares) / len(shares)
    return max(0.0, mean - below / k), min(1.0, mean + above / k)


def paired_interval(
    only_a: float, only_b: float, n: float, confidence: float = 0.95, correction: float = EDWARDS
) -> tuple[float, float]:
    """Interval of the difference of two shares of the same n answers.

    Tango's score interval (Statistics in Medicine 17, 1998) with Edwards's correction for continuity, with which it
    leaves out zero where McNemar's corrected chi-squared is significant: with few disagreements nearly always where the
    exact test is. Without the correction it would leave out zero at four disagreements to none, whose exact p is 0.125.

    Args:
        only_a, only_b: answers that only a, or only b, got right; need not be whole where answers are weighed.
        n: answers in all.
        correction: for continuity, in answers; 0 is Tango's interval as published.

    Returns:
        The bounds of share a minus share b, in [-1, 1].
    """
    z = float(norm.ppf((1 + confidence) / 2))
    return _lower_bound(only_a, only_b, n, z, correction), -_lower_bound(only_b, only_a, n, z, correction)


def _lower_bound(b: float, c: float, n: float, z: float, correction: float) -> float:
    """The smallest difference at which ``b`` and ``c`` disagreements are not too far above what it lets expect."""

    def excess(difference: float) -> float:
        """Standard errors by which ``b - c`` lies above its expectation, less those that are allowed."""
        above = b - c - n * difference - correction
        return above - z * math.sqrt(_variance(b, c, n, difference))

    return -1.0 if excess(-1.0) <= 0 else float(brentq(excess, -1.0, (b - c) / n, xtol=1e-10))


def _variance(b: float, c: float, n: float, difference: float) -> float:
    """Of ``b - c`` under a difference, at the likeliest probability of a disagreement in favour of the second."""
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    likeliest = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    return max(0.0, n * (2 * likeliest + difference * (1 - difference)))
