"""Unobserved pairs as negatives, every entity in about as many of them as in observed pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STEPS = 100  # of the fixed point; what is left by then belongs to entities that have too few unobserved partners
TOLERANCE = 1e-3  # of an entity's expected number of pairs


def unobserved(
    observed: NDArray[np.bool_], degrees: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw each unobserved pair independently, with the probabilities of the maximum-entropy graph whose expected
    degrees are ``degrees``: p = x_i x_j / (1 + x_i x_j), zero for observed pairs.

    An entity that is observed with most others cannot have as many unobserved partners; it gets nearly all it has.

    Args:
        observed: (n, n) symmetric; who was observed with whom.
        degrees: (n,) how many unobserved partners each should have.

    Returns:
        (m, 2) pairs, the lower number first, in ascending order.
    """
    free = ~observed
    np.fill_diagonal(free, False)
    chances = np.triu(pair_chances(free, degrees), 1)
    return np.argwhere(rng.random(chances.shape) < chances)


def pair_chances(free: NDArray[np.bool_], degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities, (n, n), that sum to ``degrees`` in every row for which the free partners suffice."""
    allowed = free.astype(np.float64)
    x = degrees / np.sqrt(max(degrees.sum(), 1.0))
    for _ in range(STEPS):
        partners = (allowed * (x / (1 + np.outer(x, x)))).sum(axis=1)
        update = np.divide(degrees, partners, out=np.zeros_like(x), where=partners > 0)
        settled = np.abs(x * partners - degrees).max(initial=0.0) < TOLERANCE
        x = update
        if settled:
            break
    odds = np.outer(x, x)
    return np.asarray(allowed * odds / (1 + odds))
