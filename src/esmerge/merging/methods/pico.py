"""Pico: calibrate every expert's B before another merge merges them (arXiv 2604.16826).

LoRAs share directions of the output: their B meet in a few of them, their A do not, and a sum counts what is shared
many times over. With the B of N experts side by side, ``[s_1 B_1 | … | s_N B_N] = U diag(σ) Vᵀ``, module by module,

    c_j = σ_j² / Σ σ²,    a_j = 1 / (1 + (N - 1) c_j),    B_i ← (I + U diag(a - 1) Uᵀ) B_i:

a direction that holds all of the energy is divided by N, one that holds little stays. Another merge then merges the
``s_i B_i A_i``, and its update of each module is scaled to the mean Frobenius norm of the experts' updates there. So λ
of that merge does not matter, and ``average`` and ``task_arithmetic`` come out the same.

It depends on how an update is split into B and A, which no other part of a merge sees: B may take a factor of 10 from
A, and then its directions weigh 100 times as much. The authors take the factors as they are trained, and so does this;
no split is made canonical. Experts that were trained alike are comparable; others may not be.

What was compared: the formulas stand in the authors' code (``yixuantt/Pico``). Not certain: its command for a folder of
adapters gives each calibrated expert its norm back before a merge and leaves the merge as it is; its function for one
layer scales after the merge, as the paper's abstract says, and as is done here. The settings of the merges that the
paper puts it before (its trim for TIES, its share for TSV) were not found: they are at those merges' defaults.

Differences from the authors' code, on purpose: it leaves alpha / r out, which is in B here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from esmerge.adapters.dense import Update
from esmerge.adapters.experts import ValidatedExperts, validate_experts
from esmerge.adapters.lora import LazyModules, LoraFactors, LoraState
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_choice
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.low_rank import square_norm, wide
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.space import dense_state, low_rank_state
from esmerge.merging.ops.spectral import factors_of

FIRST = ("average", "task_arithmetic", "ties", "tsv")
TINY = 1e-30  # keeps the shares of experts that learnt nothing at zero


@dataclass(frozen=True)
class PicoSettings(DeltaSettings):
    """Settings of Pico.

    Attributes:
        first: the merge of the calibrated experts, at its own published settings. Published: task arithmetic, TIES and
            TSV.
        scale: multiplies the merged update, after it has the experts' mean norm.
    """

    first: str = "task_arithmetic"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("first", self.first, FIRST)


@dataclass(frozen=True)
class Calibration:
    """One module of all experts.

    Attributes:
        parts: the calibrated factors by expert.
        norm: mean Frobenius norm of the updates before, (), double.
    """

    parts: Mapping[str, LoraFactors]
    norm: Tensor


@MERGES.register(
    "pico",
    PicoSettings,
    MergeInfo(
        title="Pico",
        source="arXiv 2604.16826",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def pico(inputs: MergeInput, settings: PicoSettings) -> Merged:
    """Another merge of calibrated experts, at the experts' mean norm."""

    @lru_cache(maxsize=1)  # every expert's module takes those of all: one is held, so that none is read again
    def read(module: str) -> Calibration:
        return calibration(factors_of(inputs.experts, module))

    inner = MERGES.get(settings.first)
    experts = calibrated_experts(inputs.experts, read)
    merged: Update = inner.function(replace(inputs, experts=experts), inner.settings()).state

    def factor(module: str, square: Tensor) -> Tensor:
        return settings.scale * torch.where(square > 0, read(module).norm / square.sqrt(), 0.0)

    if isinstance(merged, LoraState):
        modules = merged.modules

        def factors(module: str) -> LoraFactors:
            update = modules[module]
            return replace(update, b=factor(module, square_norm(update)) * update.b.double())

        return Merged(low_rank_state(inputs.experts, factors, settings.rank))
    updates = merged.modules

    def dense(module: str) -> Tensor:
        update = wide(updates[module])
        return factor(module, update.double().square().sum()).to(update.dtype) * update

    return Merged(dense_state(inputs.experts, dense, settings.rank))


def calibrated_experts(experts: ValidatedExperts, read: Callable[[str], Calibration]) -> ValidatedExperts:
    """The experts with calibrated B, computed when they are read; B is stored in at least float32."""

    def calibrated(name: str) -> LoraState:
        state = experts[name]
        header = {
            module: replace(entry, b_dtype=torch.promote_types(entry.b_dtype, torch.float32))
            for module, entry in state.header.items()
        }

        def factors(module: str) -> LoraFactors:
            part = read(module).parts[name]
            return replace(part, b=part.b.to(header[module].b_dtype))

        return LoraState(LazyModules(header, factors, header, finite=True, kept_open=state.reading), state.base_model)

    return validate_experts({name: calibrated(name) for name in experts}, "delta")


def calibration(parts: Mapping[str, LoraFactors]) -> Calibration:
    """Calibrated factors of one module, with B in double, and the mean norm of its updates."""
    stacked = torch.cat([factors.scale * factors.b.double() for factors in parts.values()], dim=1)
    u, values, _ = torch.linalg.svd(stacked, full_matrices=False)
    change = attenuation(values, len(parts)) - 1
    calibrated = {
        name: replace(factors, b=factors.b.double() + u @ (change[:, None] * (u.mT @ factors.b.double())))
        for name, factors in parts.items()
    }
    return Calibration(calibrated, torch.stack([square_norm(f).sqrt() for f in parts.values()]).mean())


def attenuation(values: Tensor, count: int) -> Tensor:
    """``1 / (1 + (N - 1) c)`` with c the directions' shares of the energy: singular values (m,) -> (m,)."""
    energy = values.square()
    factors: Tensor = 1 / (1 + (count - 1) * energy / energy.sum().clamp_min(TINY))
    return factors
