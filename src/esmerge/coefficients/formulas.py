"""The formulas of ES-Merging (arXiv 2603.14405) from responses and scores to coefficients, in the paper's order.

Layer-wise, for expert i, modality t and layer l, with X and Y the pooled responses of backbone and expert::

    D[i,t,l] = SWD_p(X, Y)                              standardise, transport_costs, sliced_wasserstein
    Δ[l] = D[l] − D[l−1], Δ[0] = D[0]                   increments
    z[i,t,l] = (Δ[l] − mean_l Δ) / std_l Δ              zscore
    g[i,l] = z[i,own,l] + a · Σ_{t≠own} z[i,t,l]        layer_gains
    alpha[i,l] = softmax_i(g[i,l] / T)                  layer_coefficients

Element-wise, for the accumulated gradient scores S of one tensor's entries θ::

    beta[i,θ] = softmax_i(zscore(S)[i,θ] / tau)         element_coefficients

Joint::

    lambda[i,θ] = alpha[i,l] · beta[i,θ] / Σ_j alpha[j,l] · beta[j,θ]    joint_coefficients

Sizes: N experts, M modalities, L layers, K probe samples, d features, P directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esmerge.core.errors import InputError

# Layer-wise: how far an expert moves a layer's embeddings


def unit_directions(features: int, count: int, generator: torch.Generator) -> Tensor:
    """Random unit vectors u, uniform on the sphere: normal vectors divided by their length.

    Returns:
        (count, features), double precision.
    """
    normal = torch.randn(count, features, generator=generator, dtype=torch.float64)
    directions: Tensor = normal / normal.norm(dim=1, keepdim=True)
    return directions


def standardise(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each feature by the mean and population standard deviation of the 2K stacked rows of both samples.

    A feature that is constant over all rows is only centred.

    Args:
        x, y: (..., K, d) each; the numbers of samples may differ.

    Returns:
        Both samples scaled, (..., K, d) each.
    """
    rows = torch.cat([x, y], dim=-2)
    mean = rows.mean(dim=-2, keepdim=True)
    std = rows.std(dim=-2, correction=0, keepdim=True)
    # Compared exactly: rounding of the mean leaves a constant column a tiny, meaningless std.
    constant = rows.amax(dim=-2, keepdim=True) == rows.amin(dim=-2, keepdim=True)
    std = torch.where(constant, torch.ones_like(std), std)
    rows.sub_(mean).div_(std)  # in place: responses of many prompts are large
    return rows[..., : x.shape[-2], :], rows[..., x.shape[-2] :, :]


def transport_costs(x: Tensor, y: Tensor, directions: Tensor, power: float) -> Tensor:
    """Cost of optimal transport along each direction u, ``W_p^p(x·u, y·u) = mean_k |sorted(x·u)_k − sorted(y·u)_k|^p``.

    Args:
        x, y: (..., K, d) each, with the same number of samples.
        directions: (P, d), unit vectors of the samples' dtype.
        power: p.

    Returns:
        (..., P).

    Raises:
        InputError: the samples differ in shape.
    """
    if x.shape != y.shape:
        raise InputError(f"responses to be compared differ in shape: {tuple(x.shape)} and {tuple(y.shape)}")
    gaps = _sorted(directions @ x.mT).sub_(_sorted(directions @ y.mT))
    return (gaps.square_() if power == 2 else gaps.abs_().pow_(power)).mean(dim=-1)


def sliced_wasserstein(mean_costs: Tensor, power: float) -> Tensor:
    """Sliced Wasserstein distance, ``SWD_p = (mean_u W_p^p(x·u, y·u))^(1/p)``.

    Args:
        mean_costs: (...,), the transport costs averaged over the directions.
        power: p.

    Returns:
        (...,).
    """
    return mean_costs ** (1 / power)


def increments(distances: Tensor) -> Tensor:
    """What each layer adds along depth, ``Δ[l] = D[l] − D[l−1]`` and ``Δ[0] = D[0]``: (..., L) from (..., L)."""
    return torch.diff(distances, dim=-1, prepend=torch.zeros_like(distances[..., :1]))


def zscore(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Subtract the mean and divide by the population standard deviation over ``dims``; zeros where all are equal.

    Returns:
        The shape of ``values``.
    """
    # A z-score does not change with the unit; dividing by the largest value keeps squares of tiny scores representable.
    largest = values.abs().amax(dim=dims, keepdim=True)
    scaled = values / torch.where(largest == 0, torch.ones_like(largest), largest)
    centred = scaled - scaled.mean(dim=dims, keepdim=True)
    std = centred.square().mean(dim=dims, keepdim=True).sqrt()  # half the time of torch.std, as exact
    equal = scaled.amax(dim=dims, keepdim=True) == scaled.amin(dim=dims, keepdim=True)
    safe = torch.where(equal | (std == 0), torch.ones_like(std), std)
    return torch.where(equal, torch.zeros_like(centred), centred / safe)


def layer_gains(z: Tensor, expert_modality: Sequence[int], cross_weight: float) -> Tensor:
    """An expert's own modality plus the weighted others, ``g[i,l] = z[i,own,l] + a · Σ_{t≠own} z[i,t,l]``.

    Args:
        z: (N, M, L).
        expert_modality: for each expert, the index of its own modality.
        cross_weight: a.

    Returns:
        (N, L).
    """
    own = z[torch.arange(len(expert_modality)), torch.as_tensor(expert_modality)]
    return own + cross_weight * (z.sum(dim=1) - own)


def layer_coefficients(
    distances: Tensor, expert_modality: Sequence[int], cross_weight: float, temperature: float
) -> Tensor:
    """Layer-wise coefficients, ``alpha[i,l] = softmax_i(g[i,l] / T)``.

    Args:
        distances: (N, M, L), sliced Wasserstein distances.
        expert_modality: for each expert, the index of its own modality.
        cross_weight: a.
        temperature: T.

    Returns:
        (N, L), double precision; sums to 1 over the experts in every layer.
    """
    z = zscore(increments(distances.double()), dims=(-1,))
    return torch.softmax(layer_gains(z, expert_modality, cross_weight) / temperature, dim=0)


# Element-wise: how much each parameter matters to its expert


def element_coefficients(scores: Tensor, tau: float) -> Tensor:
    """Element-wise coefficients, ``beta[i,θ] = softmax_i(z[i,θ] / tau)``, z standardised over the expert's tensor.

    Args:
        scores: (N, *shape), accumulated gradient scores S of one tensor.
        tau: temperature of the softmax over experts.

    Returns:
        (N, *shape), at least float32; sums to 1 over the experts at every entry.
    """
    upcast = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return torch.softmax(zscore(upcast, dims=tuple(range(1, upcast.ndim))) / tau, dim=0)


# Joint: both


def joint_coefficients(alpha: Tensor, beta: Tensor) -> Tensor:
    """Joint coefficients, ``lambda[i,θ] = alpha[i] · beta[i,θ] / Σ_j alpha[j] · beta[j,θ]``.

    Computed from logarithms, so that small products do not vanish before they are compared. Where a layer gives all its
    weight to experts of element-wise weight zero, zeros count as the smallest positive number.

    Args:
        alpha: (N,), the layer's coefficients.
        beta: (N, *shape), the element-wise coefficients of one tensor of that layer.

    Returns:
        (N, *shape), in the precision of ``beta``; sums to 1 over the experts at every entry.
    """
    column = alpha.to(beta).reshape(-1, *[1] * (beta.ndim - 1))
    products = column.log() + beta.log()
    undecided = products.isneginf().all(dim=0)
    # rare, and as much work again; but a GPU would be waited for before it is known
    if undecided.device.type != "cpu" or undecided.any():
        products = torch.where(undecided, _floored_log(column) + _floored_log(beta), products)
    return torch.softmax(products, dim=0)


def _floored_log(weights: Tensor) -> Tensor:
    return weights.clamp_min(torch.finfo(weights.dtype).tiny).log()


def _sorted(projections: Tensor) -> Tensor:
    """Sorted along the last dimension; in memory by NumPy, in place, which is many times faster than torch's sort."""
    if projections.device.type != "cpu":
        return projections.sort(dim=-1).values
    projections = projections.contiguous()
    projections.numpy().sort(axis=-1)
    return projections
