"""Span regression: least squares on the experts' responses in embedding space, each on the spans of its own modality.

**The problem.** Expert i knows one modality. At the tokens of that modality in the probe's prompts, under expert i, an
adapted linear layer is given inputs; ``Z_i`` (n_i × d) holds them, divided by √n_i. There the expert's response is
``ΔW_i Z_iᵀ``. The merged update shall respond as each expert does where that expert is the one to know:

    ΔW* = argmin_W Σ_i ‖(W − ΔW_i) Z_iᵀ‖² + c_i ‖W − ΔW_i‖²,        c_i = ρ · ‖Z_i‖² / d.

c_i is a share ρ of the mean diagonal entry of the Gram matrix ``G_i = Z_iᵀ Z_i``: where no token has been, the merge is
the experts' mean, weighed by the energy of their spans. With ``c = Σ c_i``,

    ΔW* = Σ_i s_i B_i A_i',      A_i' = A_i (G_i + c_i I) (Σ_j G_j + c I)⁻¹.                            (Gram form)

Every expert keeps its B, so the merge keeps the low rank, and ``Σ_i (G_i + c_i I)(Σ_j G_j + c I)⁻¹ = I``: one expert
alone, or N equal ones, come back as they are.

**Among tokens.** With the rows of all experts stacked to ``Z`` (n × d), ``w_i = c_i / c``, and ``E_i`` the columns of
the n × n identity that belong to expert i, Woodbury's identity ``(ZᵀZ + c I)⁻¹ Zᵀ = Zᵀ (ZZᵀ + c I)⁻¹`` gives

    A_i' = w_i A_i + [(A_i Z_iᵀ) E_iᵀ − w_i A_i Zᵀ] (ZZᵀ + c I)⁻¹ Z:                                   (kernel form)

the weighted mean, and what it lacks at every token, carried back by the kernel. No d × d matrix is formed. The two are
equal; whichever has the smaller system is solved.

**Scale.** Least squares of targets that disagree shrink: without ridge and text, by Pythagoras,
``Σ_i ‖ΔW* Z_iᵀ‖² ≤ Σ_i ‖ΔW_i Z_iᵀ‖²``. What is merged is ``Σ_i μ_i P_i``, with ``P_i = s_i B_i A_i'``, whose responses
at each expert's spans shall be as large as that expert's own,

    ‖Σ_j μ_j P_j Z_iᵀ‖ = ‖ΔW_i Z_iᵀ‖  for every i,                                                (match: expert)

or as large over all spans together, with one μ for the module, which has a closed form,

    μ² = Σ_i ‖ΔW_i Z_iᵀ‖² / Σ_i ‖ΔW* Z_iᵀ‖².                                                      (match: module)

The first is found from the second by ``μ_i ← μ_i √(wanted norm / norm)`` on N × N matrices of inner products; each
``μ_i`` stays between half and twice μ, since an expert whose spans are drowned by others' responses has no solution.
Both read the probe alone: no label, no tuning. ``match: none`` leaves every μ at 1.

**Text.** With a weight w > 0 of the text, the rows √w · (inputs at the text's tokens) / √n join ``Z_i``: at labels and
separators, where the experts' inputs are nearly equal, the target is the experts' mean. They take no part in the scale.

**Defaults.** RegMean (arXiv 2212.09849) multiplies off-diagonal entries by γ. That is, up to a factor, a ridge of
``(1 − γ) / γ`` times the diagonal; its published γ = 0.9 is ρ = 0.11, RegMean++'s 0.95 (arXiv 2508.03121) ρ = 0.05.
Here ρ = 0.1. Beside RegMean on the same tokens, what is new is the scale, the text, the ridge's form (equal for all
channels), and how it is solved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.calibration.statistics.span_inputs import SpanInputsSettings, text_name
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import above_zero, check_choice
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.low_rank import common_dtype, stack
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import low_rank_state

MATCHES = ("expert", "module", "none")
STEPS = 50  # of the iteration for μ_i; each halves the logarithm of what is missing where spans do not overlap
BLOCKS = 8  # of a symmetric product in each direction
BOUND = 2.0  # how far the experts' μ_i may lie from the module's μ


@dataclass(frozen=True)
class SpanRegressionSettings(DeltaSettings):
    """Settings of span regression.

    Attributes:
        ridge: ρ, as a share of the mean diagonal entry of each expert's Gram matrix.
        match: whose responses keep their norm at the experts' spans: each ``expert``'s, the ``module``'s as a whole, or
            ``none``.
        spans: which tokens count, and how much the text does.
    """

    ridge: float = 0.1
    match: str = "expert"
    spans: SpanInputsSettings = field(default_factory=SpanInputsSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "method", "ridge")
        check_choice("match", self.match, MATCHES)

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
        convex=True,
    ),
)
def span_regression(inputs: MergeInput, settings: SpanRegressionSettings) -> Merged:
    """``Σ μ_i P_i``, every module by itself."""
    dtype = torch.promote_types(common_dtype(inputs.experts), torch.float32)

    def factors(module: str) -> LoraFactors:
        parts = [state.modules[module] for state in inputs.experts.values()]
        spans, text = rows_of(inputs, module)
        rows = [torch.cat([own, words]) if len(words) else own for own, words in zip(spans, text, strict=True)]
        projected = regress([part.a for part in parts], rows, settings.ridge)
        updates = [LoraFactors(a, part.b, part.scale) for a, part in zip(projected, parts, strict=True)]
        factors = growth(parts, updates, spans, settings.match)
        scaled = [replace(update, a=mu * update.a) for mu, update in zip(factors, updates, strict=True)]
        return stack([(settings.scale, update) for update in scaled], dtype)

    return Merged(low_rank_state(inputs.experts, factors, settings.rank))


def rows_of(inputs: MergeInput, module: str) -> tuple[list[Tensor], list[Tensor]]:
    """One module's inputs by expert, (n_i, d) in double: at the spans, and at the text (none if it does not count)."""
    tensors = [inputs.statistics["span_inputs"][name] for name in inputs.experts]
    spans, text = [by_name[module].double() for by_name in tensors], text_name(module)
    return spans, [
        by_name[text].double() if text in by_name else own[:0] for by_name, own in zip(tensors, spans, strict=True)
    ]


def regress(factors: Sequence[Tensor], rows: Sequence[Tensor], ridge: float) -> list[Tensor]:
    """``A_i'`` of every expert, (r_i, d), in double, by the form whose system is smaller.

    Args:
        factors: A_i, (r_i, d).
        rows: Z_i, (n_i, d), in double.
        ridge: ρ.
    """
    width = rows[0].shape[1]
    ridges = ridge / width * torch.stack([z.square().sum() for z in rows])
    ridges = torch.where(ridges.sum() > 0, ridges, 1.0)  # where all spans are silent the experts are averaged
    solve = by_kernel if sum(map(len, rows)) < width else by_gram
    return solve([a.double() for a in factors], rows, ridges)


def by_gram(factors: Sequence[Tensor], rows: Sequence[Tensor], ridges: Tensor) -> list[Tensor]:
    """The Gram form: one (d, d) system. ``ridges`` are the c_i, (N,); the rest as ``regress`` has it."""
    stacked = torch.cat(list(rows))
    total = stacked.T @ stacked
    total.diagonal().add_(ridges.sum())
    root = torch.linalg.cholesky(total)
    return [
        torch.cholesky_solve(((a @ z.T) @ z + ridge * a).T, root).T
        for a, z, ridge in zip(factors, rows, ridges, strict=True)
    ]


def by_kernel(factors: Sequence[Tensor], rows: Sequence[Tensor], ridges: Tensor) -> list[Tensor]:
    """The kernel form: one (n, n) system over all tokens. ``ridges`` are the c_i, (N,)."""
    stacked = torch.cat(list(rows))
    kernel = products(stacked)
    kernel.diagonal().add_(ridges.sum())
    root = torch.linalg.cholesky(kernel)
    projected, start = [], 0
    for a, z, share in zip(factors, rows, ridges / ridges.sum(), strict=True):
        responses = a @ stacked.T  # (r, n)
        lacking = -share * responses
        lacking[:, start : start + len(z)] += responses[:, start : start + len(z)]
        projected.append(share * a + torch.cholesky_solve(lacking.T, root).T @ stacked)
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


def growth(experts: Sequence[LoraFactors], merged: Sequence[LoraFactors], spans: Sequence[Tensor], by: str) -> Tensor:
    """μ_i of one module, (N,) in double.

    Args:
        experts: ΔW_i, N updates.
        merged: P_i, N parts whose sum is ΔW*.
        spans: Z_i without the text, (n_i, d), in double.
        by: one of ``MATCHES``.
    """
    ones = torch.ones(len(experts), dtype=torch.float64, device=spans[0].device)
    if by == "none":
        return ones
    targets = torch.stack([inner_products([update], z).sum() for update, z in zip(experts, spans, strict=True)])
    forms = torch.stack([inner_products(merged, z) for z in spans])  # squared norms are quadratic in μ, (N, N, N)
    whole = ones * ratio(targets.sum(), forms.sum()).sqrt()
    growths = whole
    for _ in range(STEPS if by == "expert" else 0):
        responses = torch.einsum("ijk,j,k->i", forms, growths, growths)
        growths = (growths * ratio(targets, responses) ** 0.25).clamp(whole / BOUND, whole * BOUND)
    return growths


def ratio(targets: Tensor, responses: Tensor) -> Tensor:
    """Entry by entry; 1 where either is nothing."""
    return torch.where((targets > 0) & (responses > 0), targets / responses, 1.0)


def inner_products(parts: Sequence[LoraFactors], rows: Tensor) -> Tensor:
    """``⟨P_j Zᵀ, P_k Zᵀ⟩`` of N updates ``P = s B A`` at rows Z (n, d), without a dense update: (N, N)."""
    inputs = [part.a.double() @ rows.T for part in parts]  # (r, n)
    outputs = [part.scale * part.b.double() for part in parts]  # (out, r)
    pairs = [
        ((left_b.T @ right_b) * (left_a @ right_a.T)).sum()
        for left_a, left_b in zip(inputs, outputs, strict=True)
        for right_a, right_b in zip(inputs, outputs, strict=True)
    ]
    return torch.stack(pairs).reshape(len(parts), len(parts))
