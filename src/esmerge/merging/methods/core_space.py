"""Core Space: merge small cores in reference bases instead of whole updates (arXiv 2509.17786).

The reference bases are the left singular vectors of the stacked B and the right singular vectors of the stacked A.
Every update is its core ``U_refᵀ ΔW V_ref`` in them, without loss, whatever the experts' ranks; the cores are merged,
and the result is mapped back. What merges the cores:

- ``task_arithmetic``: their sum. It is linear, so the bases do not matter: the same as task arithmetic on the updates.
- ``ties``: trim, sign election and mean, entry by entry. This one depends on the bases, and so on how each update is
  split into A and B; the experts' factors are taken as they are trained, with the LoRA scale in B.
- ``tsv``: TSV-Merge with every triplet kept, as 1/N of the cores' width is the experts' mean rank.
- ``iso_c``: Iso-C, whose own restriction to the joint rank is this space.
- ``tsv_iso_c``: TSV-Merge, then equal singular values, as the authors run their vision experiments.

Differences from the authors' code, on purpose: it leaves alpha / r out; its TSV gives each expert the mean rank, so
that of experts of unequal rank some lose triplets and others gain arbitrary ones. The trim of TIES counts per core,
as it does there. The bases are unique up to signs, which no merge sees, as long as the stacks' singular values differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_choice, check_fraction
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.methods.iso_c import flattened
from esmerge.merging.methods.tsv import decorrelated
from esmerge.merging.ops.entrywise import elected_mean
from esmerge.merging.ops.selection import thresholds, trimmed
from esmerge.merging.ops.settings import DeltaSettings
from esmerge.merging.ops.shared_basis import SharedBasis
from esmerge.merging.ops.spectral import merge_low_rank


@dataclass(frozen=True)
class CoreSpaceSettings(DeltaSettings):
    """Settings of Core Space.

    Attributes:
        scale: λ. The authors choose it on validation data; 1 is TSV-Merge's own.
        then: what merges the cores. TSV is the best on language models in the paper.
        keep: share of each core's entries that survive the trim, only for ``ties``. The authors choose it on
            validation data; 0.2 is TIES's own.
    """

    then: str = "tsv"
    keep: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("then", self.then, tuple(MERGED_CORES))
        check_fraction("keep", self.keep)


@MERGES.register(
    "core_space",
    CoreSpaceSettings,
    MergeInfo(
        title="Core Space",
        source="arXiv 2509.17786",
        kind=MethodKind.MERGE,
        spaces=("delta",),
    ),
)
def core_space(inputs: MergeInput, settings: CoreSpaceSettings) -> Merged:
    """``λ · U_ref M V_refᵀ`` with M merged from the experts' cores."""
    merged_core = MERGED_CORES[settings.then]

    def rule(module: str, parts: Mapping[str, LoraFactors]) -> LoraFactors:
        basis = reference_basis(parts)
        return basis.expand(merged_core(basis.cores, settings.keep))

    return merge_low_rank(inputs, settings, rule)


def reference_basis(parts: Mapping[str, LoraFactors]) -> SharedBasis:
    """Bases from the SVD of the stacked factors, and the experts' cores in them."""
    b = [factors.scale * factors.b.double() for factors in parts.values()]
    a = [factors.a.double() for factors in parts.values()]
    left = torch.linalg.svd(torch.cat(b, dim=1), full_matrices=False)[0]
    right = torch.linalg.svd(torch.cat(a, dim=0), full_matrices=False)[2].T
    cores = [(left.T @ own_b) @ (own_a @ right) for own_b, own_a in zip(b, a, strict=True)]
    return SharedBasis(left, right, torch.stack(cores))


def ties_of(cores: Tensor, keep: float) -> Tensor:
    """TIES of matrices, each trimmed by itself: (N, p, q) -> (p, q)."""
    return elected_mean(trimmed(cores, thresholds(lambda: [cores], cores[0].numel(), keep)))


MERGED_CORES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "task_arithmetic": lambda cores, keep: cores.sum(dim=0),
    "ties": ties_of,
    "tsv": lambda cores, keep: decorrelated(cores, share=1.0),
    "iso_c": lambda cores, keep: flattened(cores.sum(dim=0)),
    "tsv_iso_c": lambda cores, keep: flattened(decorrelated(cores, share=1.0)),
}
"""Setting ``then`` -> (cores (N, p, q), share that a trim keeps) -> merged core (p, q)."""
