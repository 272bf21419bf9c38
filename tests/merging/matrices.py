"""What the tests of the spectral merges share: experts of any ranks and scales, and formulas on dense NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st

from esmerge.adapters.lora import LoraFactors, LoraState

ROOT = "base_model.model.model.layers"
Deltas = dict[str, list[np.ndarray]]

expert_specs = st.fixed_dictionaries(
    {
        "shapes": st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=2),
        "ranks": st.lists(st.integers(1, 4), min_size=2, max_size=4),
        "seed": st.integers(0, 9999),
    }
)


def random_experts(shapes: Sequence[tuple[int, int]], ranks: Sequence[int], seed: int) -> dict[str, LoraState]:
    """Double-precision experts with normal factors, of the given ranks and of different scales."""
    draw = torch.Generator().manual_seed(seed)

    def factors(height: int, width: int, rank: int, scale: float) -> LoraFactors:
        a = torch.randn(rank, width, generator=draw, dtype=torch.float64)
        return LoraFactors(a, torch.randn(height, rank, generator=draw, dtype=torch.float64), scale)

    return {
        f"e{i}": LoraState(
            {f"{ROOT}.{layer}.q": factors(*shape, rank, 0.5 + i) for layer, shape in enumerate(shapes)}, "backbone"
        )
        for i, rank in enumerate(ranks)
    }


def experts_of(*deltas: Sequence[Sequence[float]]) -> dict[str, LoraState]:
    """One adapter per matrix, whose update of layer 0 is that matrix."""
    matrices = [torch.tensor(delta, dtype=torch.float64) for delta in deltas]
    eyes = [torch.eye(len(matrix), dtype=torch.float64) for matrix in matrices]
    pairs = zip(matrices, eyes, strict=True)
    return {f"e{i}": LoraState({f"{ROOT}.0.q": LoraFactors(a, b, 1.0)}) for i, (a, b) in enumerate(pairs)}


def dense_of(state: LoraState) -> dict[str, np.ndarray]:
    """Module -> dense update."""
    return {module: f.scale * f.b.numpy() @ f.a.numpy() for module, f in state.modules.items()}


def deltas_of(experts: dict[str, LoraState]) -> Deltas:
    """Module -> the experts' dense updates."""
    dense = [dense_of(state) for state in experts.values()]
    return {module: [updates[module] for updates in dense] for module in dense[0]}


def assert_same(state: LoraState, expected: dict[str, np.ndarray], tolerance: float = 1e-6) -> None:
    """Relative Frobenius distance of every module's update."""
    for module, update in dense_of(state).items():
        assert np.linalg.norm(update - expected[module]) <= tolerance * max(np.linalg.norm(expected[module]), 1e-9)


def thin_svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, singular values and Vᵀ, cut to the rank of the matrix."""
    u, values, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int((values > 1e-7 * values.max()).sum()) if values.max() > 0 else 0
    return u[:, :rank], values[:rank], vt[:rank]


def keep_largest(vector: np.ndarray, keep: float) -> np.ndarray:
    """The ``keep`` share of largest entries of a flat vector, zeros elsewhere."""
    chosen = np.argsort(-np.abs(vector))[: max(1, round(keep * vector.size))]
    result = np.zeros_like(vector)
    result[chosen] = vector[chosen]
    return result


def elected_mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the experts whose entry has the sign of the sum, entry by entry."""
    stacked = np.stack(values)
    result = np.zeros(stacked.shape[1:])
    for index in np.ndindex(*result.shape):
        entries = stacked[(slice(None), *index)]
        agreeing = entries[entries * entries.sum() > 0]
        result[index] = agreeing.mean() if agreeing.size else 0.0
    return result
