"""What a comparison could have shown: the smallest true difference that its test would probably have noticed."""

from __future__ import annotations

import math

from scipy.stats import norm

from esmerge.evaluation.significance import PairedDifference

POWER = 0.8


def minimum_detectable(result: PairedDifference, level: float = 0.05, power: float = POWER) -> float:
    """The smallest true difference that the paired test at ``level`` finds with probability ``power``, in [0, 1].

    It solves ``δ = z_{1−level/2} · σ₀ + z_power · sqrt(σ₀² − δ²/m)`` for δ, Connor's sample size of McNemar's test
    (Biometrics 43, 1987) read backwards; σ₀ is the standard error if both methods were equally good, as often as the
    two disagreed here, and m the number of independent questions. Never less than what the exact test can call
    significant at all.
    """
    z_level, z_power = norm.ppf(1 - level / 2), norm.ppf(power)
    a, b = z_level * result.null_error, z_power**2 / result.clusters
    inner = z_power**2 * result.null_error**2 * (1 + b) - b * a**2
    solved = (a + math.sqrt(max(0.0, inner))) / (1 + b)
    return min(1.0, max(float(solved), fewest_one_way(level) / result.n))


def fewest_one_way(level: float) -> int:
    """How many disagreements, all in favour of one method, the exact test needs: least k with ``2 · 2⁻ᵏ ≤ level``."""
    return max(1, math.ceil(math.log2(2 / level)))
