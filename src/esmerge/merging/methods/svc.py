"""SVC, singular value calibration: what several experts share is counted once (arXiv 2602.05536).

It goes on top of another merge. With ``M = U diag(σ) Vᵀ`` the merged update, each left singular vector u_r is a
direction of the output, and expert i responds in it by ``a_r^i = u_rᵀ ΔW_i``. How far the merge carries it is

    s_r^i = ⟨u_rᵀ M, a_r^i⟩ / ‖a_r^i‖²,    and    σ_r ← σ_r · N / Σ_i max(α, s_r^i):

where experts agree M has counted their response several times (s > 1) and is turned down; where it lost some (s < 1) it
is turned up, by 1/α at most. An expert without a response in a direction counts as α; one that leaves the whole module
alone does not count there.

It is computed on cores in shared bases where the merge has a low rank, on whole updates, one module at a time, where it
has none. Merges that leave equal singular values (Iso-C) have no directions of their own and are not offered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esmerge.adapters.dense import Update
from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import above_zero, check_choice
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.entrywise import stacked_deltas
from esmerge.merging.ops.low_rank import wide
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import SharedBasis, shared_basis
from esmerge.merging.ops.space import dense_state, low_rank_state
from esmerge.merging.ops.spectral import factors_of

FIRST = ("average", "task_arithmetic", "ties", "tsv")
PUBLISHED_SCALES = {"task_arithmetic": 0.3}  # λ, where it is not 1


@dataclass(frozen=True)
class SvcSettings(DeltaSettings):
    """Settings of SVC.

    Attributes:
        first: the merge that is calibrated, at its own published settings but for its λ.
        first_scale: that merge's λ; None is the published one: 0.3 for task arithmetic, 1 for the others. Where every
            s is above α it does not matter.
        alpha: α, the least that a response counts as. Published: 0.1; the authors' scripts have 1/N of eight experts,
            and 1 on top of TSV-Merge.
        scale: multiplies the calibrated merge.
    """

    first: str = "task_arithmetic"
    first_scale: float | None = None
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("first", self.first, FIRST)
        above_zero(self, "method", "alpha")
        if self.first_scale is not None:
            above_zero(self, "method", "first_scale")

    def scale_of_first(self) -> float:
        """λ of the merge that is calibrated."""
        return PUBLISHED_SCALES.get(self.first, 1.0) if self.first_scale is None else self.first_scale


@MERGES.register(
    "svc",
    SvcSettings,
    MergeInfo(
        title="SVC",
        source="arXiv 2602.05536",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def svc(inputs: MergeInput, settings: SvcSettings) -> Merged:
    """Another merge with its singular values calibrated."""
    inner = MERGES.get(settings.first)
    merged: Update = inner.function(inputs, replace(inner.settings(), scale=settings.scale_of_first())).state
    if isinstance(merged, LoraState):
        modules = merged.modules

        def factors(module: str) -> LoraFactors:
            basis = shared_basis(factors_of(inputs.experts, module))
            core = calibrated(core_of(modules[module], basis), basis.cores, settings.alpha)
            return basis.expand(settings.scale * core)

        return Merged(low_rank_state(inputs.experts, factors, settings.rank))
    updates = merged.modules

    def update(module: str) -> Tensor:
        return settings.scale * calibrated(wide(updates[module]), stacked_deltas(inputs, module), settings.alpha)

    return Merged(dense_state(inputs.experts, update, settings.rank))


def core_of(factors: LoraFactors, basis: SharedBasis) -> Tensor:
    """An update inside the joint space of the experts' in their bases, (p, q)."""
    core: Tensor = (factors.scale * basis.left.mT @ factors.b.double()) @ (factors.a.double() @ basis.right)
    return core


def calibrated(merged: Tensor, updates: Tensor, alpha: float) -> Tensor:
    """The merged update with calibrated singular values: (p, q), (N, p, q) -> (p, q)."""
    is_active = updates.flatten(1).any(dim=1)
    u, values, vt = torch.linalg.svd(merged, full_matrices=False)
    responses = u.mT @ updates  # (N, m, q)
    squares = responses.square().sum(dim=-1)
    along = torch.einsum("mq,nmq->nm", values[:, None] * vt, responses)  # u_rᵀ M is σ_r v_rᵀ
    shares = torch.where(squares > 0, along / squares, 0.0)
    counted = shares.clamp_min(alpha) * is_active[:, None]
    factors = torch.where(is_active.any(), is_active.sum() / counted.sum(dim=0), 1.0)
    turned: Tensor = (u * (values * factors)) @ vt
    return turned
