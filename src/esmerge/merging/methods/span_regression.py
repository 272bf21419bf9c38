"""Span regression: least squares on the experts' responses in embedding space, each on the spans of its own modality.

**The problem.** Expert i knows one modality. At the tokens of that modality in the probe's prompts, under expert i, an
adapted linear layer is given inputs; ``Z_i`` (n_i × d) holds them, divided by √n_i. There the expert's response is
``ΔW_i Z_iᵀ``. The merged update shall respond as each expert does where that expert is the one to know, and elsewhere
leave every expert what it says:

    ΔW* = argmin_W Σ_i ‖(W − ΔW_i) Z_iᵀ‖² + c ‖W − κ Σ_j ΔW_j‖²,        c = ρ · Σ_i ‖Z_i‖² / d.

c is a share ρ of the mean diagonal entries of the Gram matrices ``G_i = Z_iᵀ Z_i``: where no token has been, the merge
is κ times the sum of the updates, at κ = 1 the sum itself, at κ = 1/N their mean. So

    ΔW* = Σ_i s_i B_i A_i',      A_i' = A_i (G_i + κ c I) (Σ_j G_j + c I)⁻¹.                            (Gram form)

Every expert keeps its B, so the merge keeps the low rank. One expert alone comes back as it is at κ = 1. What the sum
gets wrong is that an expert also answers tokens that are not its own; this, and no more, is what the regression takes
away. From ρ → ∞, task arithmetic with λ = κ, it leads to ρ → 0, least squares on the spans alone.

**Among tokens.** With the rows of all experts stacked to ``Z`` (n × d), and ``E_i`` the columns of the n × n identity
that belong to expert i, Woodbury's identity ``(ZᵀZ + c I)⁻¹ Zᵀ = Zᵀ (ZZᵀ + c I)⁻¹`` gives

    A_i' = κ A_i + [(A_i Z_iᵀ) E_iᵀ − κ A_i Zᵀ] (ZZᵀ + c I)⁻¹ Z:                                       (kernel form)

κ times the update, and what it lacks at every token, carried back by the kernel. No d × d matrix is formed. The two
are equal; whichever has the smaller system is solved.

**Defaults.** RegMean (arXiv 2212.09849) multiplies off-diagonal entries by γ. That is, up to a factor, a ridge of
``(1 − γ) / γ`` times the diagonal, which pulls each channel to a mean of the experts weighted by how strong the channel
is in each; its published γ = 0.9 is ρ = 0.11, RegMean++'s 0.95 (arXiv 2508.03121) ρ = 0.05. Here κ = 1 and ρ = 0.3,
chosen on validation questions of the embedded world (``benchmarks/results/span_regression.md``). Beside RegMean on the
same tokens, what is new is the sum where no token has been, a ridge that is equal for all channels, and how it is
solved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from esmerge.adapters.lora import LoraFactors
from esmerge.calibration.statistics.span_inputs import SpanInputsSettings
from esmerge.core.errors import NumberError
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import at_least
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.low_rank import common_dtype, stack
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import low_rank_state

LEAST_RIDGE = 1e-8  # below, tokens that are alike leave systems that double precision does not solve
BLOCKS = 8  # of a symmetric product in each direction


@dataclass(frozen=True)
class SpanRegressionSettings(DeltaSettings):
    """Settings of span regression.

    Attributes:
        ridge: ρ, as a share of the mean diagonal entry of the experts' Gram matrices.
        outside: κ, what the merge is where no token has been, as a share of the sum of the experts' updates.
        spans: which tokens count.
    """

    ridge: float = 0.3
    outside: float = 1.0
    spans: SpanInputsSettings = field(default_factory=SpanInputsSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "method", LEAST_RIDGE, "ridge")
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
    """``Σ s_i B_i A_i'``, every module by itself."""
    dtype = torch.promote_types(common_dtype(inputs.experts), torch.float32)

    def factors(module: str) -> LoraFactors:
        parts = [state.modules[module] for state in inputs.experts.values()]
        rows = [inputs.statistics["span_inputs"][name][module].double() for name in inputs.experts]
        try:
            projected = regress([part.a for part in parts], rows, settings.ridge, settings.outside)
        except LinAlgError as error:
            raise NumberError(
                f"method.ridge={settings.ridge:g}: the least squares of {module} cannot be solved ({error}): give a "
                "larger ridge, e.g. the default, 0.3"
            ) from error
        updates = [LoraFactors(a, part.b, part.scale) for a, part in zip(projected, parts, strict=True)]
        return stack([(settings.scale, update) for update in updates], dtype)

    return Merged(low_rank_state(inputs.experts, factors, settings.rank))


def regress(factors: Sequence[Tensor], rows: Sequence[Tensor], ridge: float, outside: float) -> list[Tensor]:
    """``A_i'`` of every expert, (r_i, d), in double, by the form whose system is smaller.

    Args:
        factors: A_i, (r_i, d).
        rows: Z_i, (n_i, d), in double.
        ridge: ρ.
        outside: κ.
    """
    width = rows[0].shape[1]
    energy = torch.stack([z.square().sum() for z in rows]).sum()
    penalty = torch.where(energy > 0, ridge / width * energy, 1.0)  # silent spans leave κ times the sum
    solve = by_kernel if sum(map(len, rows)) < width else by_gram
    return solve([a.double() for a in factors], rows, penalty, outside)


def by_gram(factors: Sequence[Tensor], rows: Sequence[Tensor], penalty: Tensor, outside: float) -> list[Tensor]:
    """The Gram form: one (d, d) system. ``penalty`` is c; the rest as ``regress`` has it."""
    stacked = torch.cat(list(rows))
    total = stacked.T @ stacked
    total.diagonal().add_(penalty)
    root = torch.linalg.cholesky(total)
    return [
        torch.cholesky_solve(((a @ z.T) @ z + outside * penalty * a).T, root).T
        for a, z in zip(factors, rows, strict=True)
    ]


def by_kernel(factors: Sequence[Tensor], rows: Sequence[Tensor], penalty: Tensor, outside: float) -> list[Tensor]:
    """The kernel form: one (n, n) system over all tokens. ``penalty`` is c; the rest as ``regress`` has it."""
    stacked = torch.cat(list(rows))
    kernel = products(stacked)
    kernel.diagonal().add_(penalty)
    root = torch.linalg.cholesky(kernel)
    projected, start = [], 0
    for a, z in zip(factors, rows, strict=True):
        responses = a @ stacked.T  # (r, n)
        lacking = -outside * responses
        lacking[:, start : start + len(z)] += responses[:, start : start + len(z)]
        projected.append(outside * a + torch.cholesky_solve(lacking.T, root).T @ stacked)
        start += len(z)
    return projected


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
