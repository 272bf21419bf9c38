"""The paper's formulas once more, in NumPy loops over experts, layers and entries, to check the tensor code against."""

from __future__ import annotations

import numpy as np


def standardise(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two pooled samples (K, d), each feature scaled by the mean and deviation of both together."""
    rows = np.concatenate([x, y])
    std = rows.std(axis=0)
    std[std == 0] = 1.0
    return (x - rows.mean(axis=0)) / std, (y - rows.mean(axis=0)) / std


def distance(x: np.ndarray, y: np.ndarray, directions: np.ndarray, power: float) -> float:
    """Sliced Wasserstein distance of two pooled samples (K, d), standardised together."""
    x, y = standardise(x, y)
    gaps = [np.abs(np.sort(x @ u) - np.sort(y @ u)) ** power for u in directions]
    return float(np.mean(gaps) ** (1 / power))


def zscore(values: np.ndarray) -> np.ndarray:
    std = values.std()
    return np.zeros_like(values) if std == 0 else (values - values.mean()) / std


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def alpha(
    backbone: np.ndarray,
    responses: np.ndarray,
    own: tuple[int, ...],
    directions: np.ndarray,
    power: float,
    cross_weight: float,
    temperature: float,
) -> np.ndarray:
    """Layer-wise coefficients (N, L) from backbone (M, L, K, d) and responses (N, M, L, K, d)."""
    experts, modalities, layers = responses.shape[:3]
    distances = np.zeros((experts, modalities, layers))
    for i, t, ell in np.ndindex(*distances.shape):
        distances[i, t, ell] = distance(backbone[t, ell], responses[i, t, ell], directions, power)
    return alpha_from_distances(distances, own, cross_weight, temperature)


def alpha_from_distances(
    distances: np.ndarray, own: tuple[int, ...], cross_weight: float, temperature: float
) -> np.ndarray:
    """Layer-wise coefficients (N, L) from distances (N, M, L)."""
    experts, modalities, layers = distances.shape
    z = np.zeros((experts, modalities, layers))
    for i in range(experts):
        for t in range(modalities):
            d = distances[i, t]
            z[i, t] = zscore(np.array([d[0], *(d[ell] - d[ell - 1] for ell in range(1, layers))]))
    result = np.zeros((experts, layers))
    for ell in range(layers):
        gains = [
            z[i, own[i], ell] + cross_weight * sum(z[i, t, ell] for t in range(modalities) if t != own[i])
            for i in range(experts)
        ]
        result[:, ell] = softmax(np.array(gains) / temperature)
    return result


def beta(scores: np.ndarray, tau: float) -> np.ndarray:
    """Element-wise coefficients of one tensor, (N, *shape)."""
    z = np.stack([zscore(expert_scores) for expert_scores in scores])
    result = np.zeros_like(z)
    for entry in np.ndindex(*z.shape[1:]):
        result[(slice(None), *entry)] = softmax(z[(slice(None), *entry)] / tau)
    return result


def joint(layer: np.ndarray, element: np.ndarray) -> np.ndarray:
    """Joint coefficients of one tensor from its layer's (N,) and its own (N, *shape)."""
    product = np.stack([weight * values for weight, values in zip(layer, element, strict=True)])
    return product / product.sum(axis=0)
