"""ACE-Merging: least squares with covariances that are estimated from the updates (arXiv 2603.02945).

RegMean's solution with ``Σ_i = ΔW̃_iᵀ ΔW̃_i`` for Gram matrices, where ΔW̃_i is the update less the mean of its rows:

    W₀ = [Σ_i ΔW̃_i (Σ_i + ε_i I)] [Σ_i (Σ_i + ε_i I) + 1 cᵀ]⁻¹,    c = the mean row of Σ_i Σ_i.

Where the experts' energies ``t_i = ‖ΔW_i‖²`` differ much, ``Var(log t) / Mean(log t)² > 0.3``, each Σ_i and ε_i is
divided by the trace of Σ_i, c by the mean of t, and W₀ gets a spectral refinement: with
``F = W₀ + Σ_i ΔW_i (Σ_i − Σ̄)``, Σ̄ the mean of ``Σ_i + ε_i I``, the mean of its leading singular values times
``U_k V_kᵀ``. The constants are those of the authors' code.

ε is not relative: of updates that are small against it, the merge is their mean less the mean row. All of it is done on
cores in shared bases, to which the vector of ones is added; the result lies in the joint row space of the updates.

Differences from the authors' code, on purpose: k is a share of the singular values that F has, as in Iso-C; theirs is
of the weight's whole width, whose empty directions have arbitrary vectors. Experts that leave a module alone do not
count there: ε over a trace of zero would be the merge. Of an expert whose update is a thousand times smaller than the
others', ε over its trace still is, as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import above_zero, check_fraction
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import SharedBasis
from esmerge.merging.ops.spectral import merge_low_rank, significant

TINY = 1e-12  # added to energies, so that an idle expert has a logarithm
HETEROGENEOUS = 0.3  # relative variance of the energies' logarithms from which on experts are normalised


@dataclass(frozen=True)
class AceSettings(DeltaSettings):
    """Settings of ACE-Merging.

    Attributes:
        epsilon: ε, added to the diagonal of each covariance. Published: 0.01.
        keep: share of the singular values that the refinement reads. Published: 0.3.
        scale: λ. Published: 1.
    """

    epsilon: float = 0.01
    keep: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "method", "epsilon")
        check_fraction("keep", self.keep)


@MERGES.register(
    "ace",
    AceSettings,
    MergeInfo(
        title="ACE-Merging",
        source="arXiv 2603.02945",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def ace(inputs: MergeInput, settings: AceSettings) -> Merged:
    """``λ · W₀``, refined where the experts' energies differ."""

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        basis = basis_with_ones(parts)
        return basis.expand(covariance_merge(basis, settings.epsilon, settings.keep))

    return merge_low_rank(inputs, settings, rule)


def basis_with_ones(parts: Mapping[str, LoraFactors]) -> SharedBasis:
    """Common bases of one module's updates, the left one of which spans the vector of ones too."""
    b = [factors.scale * factors.b.double() for factors in parts.values()]
    a = [factors.a.double() for factors in parts.values()]
    left = torch.linalg.qr(torch.cat([torch.ones_like(b[0][:, :1]), *b], dim=1))[0]
    right = torch.linalg.qr(torch.cat(a).T)[0]
    cores = [(left.T @ own_b) @ (own_a @ right) for own_b, own_a in zip(b, a, strict=True)]
    return SharedBasis(left, right, torch.stack(cores))


def covariance_merge(basis: SharedBasis, epsilon: float, keep: float) -> Tensor:
    """The merged core, (p, q), of cores (N, p, q)."""
    cores, ones = basis.cores, basis.left.sum(dim=0) / len(basis.left) ** 0.5  # a unit vector: the left basis has it
    centred = cores - ones[:, None] * (ones @ cores)[:, None, :]
    energies = cores.square().sum(dim=(1, 2))
    count = (energies > 0).sum().clamp_min(1)  # experts that update the module
    differ = is_heterogeneous(energies)
    traces = torch.where(differ, centred.square().sum(dim=(1, 2)) + TINY, 1.0)
    covariances = (centred.mT @ centred) / traces[:, None, None]
    ridges = torch.where((energies > 0) | ~energies.any(), epsilon / traces, 0.0)
    unit = torch.eye(cores.shape[-1], dtype=cores.dtype, device=cores.device)
    total = covariances.sum(dim=0)
    columns = basis.right.sum(dim=0)  # the vector of ones, as far as the right basis has it
    prior = total @ columns / len(basis.right) / torch.where(differ, energies.sum() / count + TINY, 1.0)
    numerator = (centred @ (covariances + ridges[:, None, None] * unit)).sum(dim=0)
    denominator = total + ridges.sum() * unit + torch.outer(columns, prior)
    merged: Tensor = torch.linalg.solve(denominator.mT, numerator.mT).mT
    mean = (total + ridges.sum() * unit) / count
    return merged + torch.where(differ, refinement(merged + (cores @ (covariances - mean)).sum(dim=0), keep), 0.0)


def is_heterogeneous(energies: Tensor) -> Tensor:
    """Whether the logarithms of the experts' squared norms, (N,), zeros apart, differ much; a single truth value."""
    logs, is_active = (energies + TINY).log(), energies > 0
    count = is_active.sum()
    mean = (logs * is_active).sum() / count
    variance = ((logs - mean).square() * is_active).sum() / (count - 1)
    heterogeneous: Tensor = (count > 1) & (variance / (mean.square() + TINY) > HETEROGENEOUS)
    return heterogeneous


def refinement(fused: Tensor, keep: float) -> Tensor:
    """``mean(σ) · U Vᵀ`` of the leading share of a matrix's singular triplets, of one at least."""
    u, values, vt = torch.linalg.svd(fused, full_matrices=False)
    count = (significant(values).sum() * keep).floor().clamp_min(1)
    leading = torch.arange(len(values), device=values.device) < count
    isotropic: Tensor = (values * leading).sum() / count * (u * leading) @ vt
    return isotropic
