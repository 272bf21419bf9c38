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
``Σ_i ‖ΔW* Z_iᵀ‖² ≤ Σ_i ‖ΔW_i Z_iᵀ‖²``. The merged update is multiplied, module by module, by

    μ = √( Σ_i ‖ΔW_i Z_iᵀ‖² / Σ_i ‖ΔW* Z_iᵀ‖² ),

so that its responses at the experts' spans are as large as the experts' own. That reads the probe alone: no label, no
tuning. ``match: none`` leaves μ = 1.

**Text.** With a weight w > 0 of the text, the rows √w · (inputs at the text's tokens) / √n join ``Z_i``: at labels and
separators, where the experts' inputs are nearly equal, the target is the experts' mean. They take no part in μ.

**Defaults.** RegMean (arXiv 2212.09849) multiplies off-diagonal entries by γ. That is, up to a factor, a ridge of
``(1 − γ) / γ`` times the diagonal; its published γ = 0.9 is ρ = 0.11, RegMean++'s 0.95 (arXiv 2508.03121) ρ = 0.05.
Here ρ = 0.1. It differs from RegMean on the tokens of the modality in the ridge's form (equal for all channels), in
μ, in the text, and in how it is solved.
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

MATCHES = ("norm", "none")


@dataclass(frozen=True)
class SpanRegressionSettings(DeltaSettings):
    """Settings of span regression.

    Attributes:
        ridge: ρ, as a share of the mean diagonal entry of each expert's Gram matrix.
        match: ``norm`` scales each module so that responses at the experts' spans keep their size, ``none`` does not.
        spans: which tokens count, and how much the text does.
    """

    ridge: float = 0.1
    match: str = "norm"
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
    """``μ · ΔW*``, every module by itself."""
    dtype = torch.promote_types(common_dtype(inputs.experts), torch.float32)

    def factors(module: str) -> LoraFactors:
        parts = [state.modules[module] for state in inputs.experts.values()]
        spans, text = rows_of(inputs, module)
        rows = [torch.cat(pair) for pair in zip(spans, text, strict=True)]
        projected = regress([part.a for part in parts], rows, settings.ridge)
        updates = [LoraFactors(a, part.b, part.scale) for a, part in zip(projected, parts, strict=True)]
        growth = norm_ratio(parts, updates, spans) if settings.match == "norm" else torch.ones_like(spans[0][0, 0])
        return stack([(settings.scale, replace(update, a=growth * update.a)) for update in updates], dtype)

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
    kernel = stacked @ stacked.T
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


def norm_ratio(experts: Sequence[LoraFactors], merged: Sequence[LoraFactors], spans: Sequence[Tensor]) -> Tensor:
    """μ of one module, a single number in double; 1 where the merge does not respond at all.

    Args:
        experts: ΔW_i, N updates.
        merged: the parts whose sum is ΔW*.
        spans: Z_i without the text, (n_i, d), in double.
    """
    targets = torch.stack([energy([update], z) for update, z in zip(experts, spans, strict=True)]).sum()
    responses = torch.stack([energy(merged, z) for z in spans]).sum()
    return torch.where(responses > 0, targets / responses, 1.0).sqrt()


def energy(parts: Sequence[LoraFactors], rows: Tensor) -> Tensor:
    """``‖(Σ s B A) Zᵀ‖²`` without the dense update."""
    inner = torch.cat([part.a.double() for part in parts]) @ rows.T  # (Σr, n)
    outer = torch.cat([part.scale * part.b.double() for part in parts], dim=1)  # (out, Σr)
    return ((outer.T @ outer) @ inner * inner).sum().clamp_min(0)
