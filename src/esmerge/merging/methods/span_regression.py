"""Span regression: least squares on the experts' responses in embedding space, each on the spans of its own modality.

**The problem.** Expert i knows one modality. At the tokens of that modality in the probe's prompts, under expert i, an
adapted linear layer is given inputs; ``Z_i`` (n_i × d) holds them, divided by √n_i. There the expert's response is
``ΔW_i Z_iᵀ``. The merged update shall respond as each expert does where that expert is the one to know, and elsewhere
be what is known of the updates alone, P:

    ΔW* = argmin_W Σ_i ‖(W − ΔW_i) Z_iᵀ‖² + c ‖W − κ P‖²,        c = ρ · Σ_i ‖Z_i‖² / d.

c is a share ρ of the mean diagonal entries of the Gram matrices ``G_i = Z_iᵀ Z_i``: where no token has been, the merge
is κ P. From ρ → ∞, P alone, it leads to ρ → 0, least squares on the spans alone.

**The prior.** With ``ΔW_i = U_i S_i V_iᵀ`` the experts' singular vectors are not orthogonal to each other's: summed,
what two experts share counts twice. TSV-Merge (arXiv 2412.00081) and Core Space (arXiv 2509.17786) give all of them
together orthonormal places, by the polar factors of ``[U_1 … U_N]`` and ``[V_1 … V_N]``:

    P = U⊥ diag(S_1, …, S_N) V⊥ᵀ        (``prior=decorrelated``; every triplet stays, as in Core Space),

so that experts that agree count once. ``prior=sum`` is ``Σ_i ΔW_i``.

**Low rank.** Every ``ΔW_i`` and P live in the column space of the stacked B: with U its orthonormal basis (p columns,
p ≤ Σ r_i), ``ΔW_i = U R_i``, ``κ P = U K``, and ``ΔW* = U R`` with

    R = (Σ_i R_i G_i + c K) (Σ_i G_i + c I)⁻¹,                                                        (Gram form)

so the merge has the stack's low rank. One expert alone comes back as it is at κ = 1.

**Among tokens.** With the rows of all experts stacked to ``Z`` (n × d), Woodbury's identity
``(ZᵀZ + c I)⁻¹ Zᵀ = Zᵀ (ZZᵀ + c I)⁻¹`` gives

    R = K + [(R_1 − K) Z_1ᵀ, …, (R_N − K) Z_Nᵀ] (ZZᵀ + c I)⁻¹ Z:                                     (kernel form)

the prior, and what it lacks at every token, carried back by the kernel. No d × d matrix is formed. The two are equal;
whichever has the smaller system is solved.

**Defaults.** RegMean (arXiv 2212.09849) multiplies off-diagonal entries by γ. That is, up to a factor, a ridge of
``(1 − γ) / γ`` times the diagonal, which pulls each channel to a mean of the experts weighted by how strong the channel
is in each; its published γ = 0.9 is ρ = 0.11, RegMean++'s 0.95 (arXiv 2508.03121) ρ = 0.05. Defaults were chosen on
validation questions of the embedded world (``benchmarks/results/span_regression.md``). Beside RegMean on the same
tokens, what is new is the prior where no token has been, a ridge that is equal for all channels, and how it is solved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from esmerge.adapters.lora import LoraFactors
from esmerge.calibration.statistics.span_inputs import SpanInputsSettings
from esmerge.core.errors import NumberError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import at_least, check_choice
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.methods.tsv import decorrelated
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import shared_basis
from esmerge.merging.ops.spectral import merge_low_rank

LEAST_RIDGE = 1e-8  # below, tokens that are alike leave systems that double precision does not solve
BLOCKS = 8  # of a symmetric product in each direction
PRIORS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda cores: cores.sum(dim=0),
    "decorrelated": lambda cores: decorrelated(cores, share=1.0),
}
"""Setting ``prior`` -> (the experts' cores in common bases, (N, p, q)) -> that of the merge where no token has been."""


@dataclass(frozen=True)
class SpanRegressionSettings(DeltaSettings):
    """Settings of span regression.

    Attributes:
        ridge: ρ, as a share of the mean diagonal entry of the experts' Gram matrices.
        prior: P, what the merge is where no token has been: ``decorrelated`` or ``sum``.
        outside: κ, as what share of P.
        spans: which tokens count.
        scale: λ, multiplies the merge.
    """

    scale: float = 1.1
    ridge: float = 0.3
    prior: str = "decorrelated"
    outside: float = 1.0
    spans: SpanInputsSettings = field(default_factory=SpanInputsSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "method", LEAST_RIDGE, "ridge")
        check_choice("prior", self.prior, tuple(PRIORS))
        at_least(self, "method", 0, "outside")

    def statistics_settings(self) -> Mapping[str, object]:
        return {"span_inputs": self.spans}


@MERGES.register(
    "span_regression",
    SpanRegressionSettings,
    MergeInfo(
        title="Span regression",
        source="this project; extends RegMean (arXiv 2212.09849)",
        kind=MethodKind.MERGE,
        spaces=("delta",),
        needs=("span_inputs",),
    ),
)
def span_regression(inputs: MergeInput, settings: SpanRegressionSettings) -> Merged:
    """``U R``, every module by itself."""

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        basis = shared_basis(parts)
        prior = settings.outside * PRIORS[settings.prior](basis.cores)
        rows = [inputs.statistics["span_inputs"][name][module].double() for name in parts]
        try:
            right = regress(basis.cores @ basis.right.T, rows, settings.ridge, prior @ basis.right.T)
        except LinAlgError as error:
            raise NumberError(
                f"method.ridge={settings.ridge:g}: the least squares of {module} cannot be solved ({error}): give a "
                "larger ridge, e.g. the default, 0.3"
            ) from error
        return LoraFactors(right, basis.left, 1.0)

    return merge_low_rank(inputs, settings, rule)


def regress(updates: Tensor, rows: Sequence[Tensor], ridge: float, prior: Tensor) -> Tensor:
    """``R``, (p, d), in double, by the form whose system is smaller.

    Args:
        updates: ``R_i``, (N, p, d), in double.
        rows: Z_i, (n_i, d), in double.
        ridge: ρ.
        prior: ``K``, (p, d).
    """
    width = rows[0].shape[1]
    energy = torch.stack([z.square().sum() for z in rows]).sum()
    penalty = torch.where(energy > 0, ridge / width * energy, 1.0)  # silent spans leave the prior
    solve = by_kernel if sum(map(len, rows)) < width else by_gram
    return solve(updates, rows, penalty, prior)


def by_gram(updates: Tensor, rows: Sequence[Tensor], penalty: Tensor, prior: Tensor) -> Tensor:
    """The Gram form: one (d, d) system. ``penalty`` is c; the rest as ``regress`` has it."""
    stacked = torch.cat(list(rows))
    total = stacked.T @ stacked
    total.diagonal().add_(penalty)
    responses = torch.stack([(update @ z.T) @ z for update, z in zip(updates, rows, strict=True)]).sum(dim=0)
    return torch.cholesky_solve((responses + penalty * prior).T, torch.linalg.cholesky(total)).T


def by_kernel(updates: Tensor, rows: Sequence[Tensor], penalty: Tensor, prior: Tensor) -> Tensor:
    """The kernel form: one (n, n) system over all tokens. ``penalty`` is c; the rest as ``regress`` has it."""
    stacked = torch.cat(list(rows))
    kernel = products(stacked)
    kernel.diagonal().add_(penalty)
    residuals = torch.cat([(update - prior) @ z.T for update, z in zip(updates, rows, strict=True)], dim=1)  # (p, n)
    return prior + torch.cholesky_solve(residuals.T, torch.linalg.cholesky(kernel)).T @ stacked


def products(rows: Tensor) -> Tensor:
    """``Z Zᵀ`` of rows (n, d), (n, n), by blocks of one triangle: 9/16 of the work of the whole."""
    n = len(rows)
    step = max(1, -(-n // BLOCKS))
    product = rows.new_empty(n, n)
    for start in range(0, n, step):
        stop = start + step
        block = rows[start:] @ rows[start:stop].T
        product[start:, start:stop] = block
        product[start:stop, start:] = block.T
    return product
