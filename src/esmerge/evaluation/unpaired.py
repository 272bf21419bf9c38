"""Two accuracies on different questions: what is left to say where answers cannot be paired."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import fisher_exact, norm

from esmerge.evaluation.intervals import wilson


@dataclass(frozen=True)
class UnpairedDifference:
    """Accuracy of a minus accuracy of b.

    Attributes:
        ci_low, ci_high: 95 % interval, Newcombe's from two Wilson intervals (Statistics in Medicine 17, 1998).
        p_value: two-sided, of Fisher's exact test.
        detectable: the smallest true difference that such a test finds with the power asked for.
    """

    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    detectable: float


def unpaired_difference(
    right_a: int, n_a: int, right_b: int, n_b: int, level: float = 0.05, power: float = 0.8
) -> UnpairedDifference:
    """Compare ``right_a`` of ``n_a`` answers with ``right_b`` of ``n_b``; ``level`` and ``power`` of ``detectable``."""
    p_a, p_b, pooled = right_a / n_a, right_b / n_b, (right_a + right_b) / (n_a + n_b)
    (low_a, high_a), (low_b, high_b) = wilson(right_a, n_a), wilson(right_b, n_b)
    table = [[right_a, n_a - right_a], [right_b, n_b - right_b]]
    error = math.sqrt(max(pooled * (1 - pooled), 1 / (n_a + n_b)) * (1 / n_a + 1 / n_b))
    return UnpairedDifference(
        difference=p_a - p_b,
        ci_low=p_a - p_b - math.hypot(p_a - low_a, high_b - p_b),
        ci_high=p_a - p_b + math.hypot(high_a - p_a, p_b - low_b),
        p_value=float(fisher_exact(table)[1]),
        detectable=min(1.0, float(norm.ppf(1 - level / 2) + norm.ppf(power)) * error),
    )
