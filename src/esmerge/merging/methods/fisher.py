"""Fisher merging: at every entry, experts count by how much their predictions depend on it (arXiv 2111.09832).

``θ* = Σ F_i ⊙ θ_i / Σ F_i`` with the diagonal F_i of expert i's Fisher information. As in the authors' code, F_i is at
least a small floor, and is divided by its norm over the whole adapter, so that an expert with large gradients
everywhere does not outvote the others.

Differences from their code, on purpose: the floor holds for every expert, where theirs favours the first one's task and
gives the floor to it alone; the norm is that of the floored values, which is never zero; and the experts' own weights,
which theirs searches on validation data, are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraState, factor_name
from esmerge.calibration.statistics.fisher import FisherSettings
from esmerge.core.lazy import LazyMapping
from esmerge.core.methods import MergeInfo, MethodKind
from esmerge.core.validation import check_positive
from esmerge.merging.api import MERGES, Merged, MergeInput
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.merging.ops.space import combine


@dataclass(frozen=True)
class FisherMergingSettings(ConvexSettings):
    """Settings of Fisher merging.

    Attributes:
        floor: least Fisher information of an entry; the authors' value.
        normalise: divide each expert's Fisher information by its norm over the whole adapter.
        fisher: how the Fisher information is measured.
    """

    floor: float = 1e-6
    normalise: bool = True
    fisher: FisherSettings = field(default_factory=FisherSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("floor", self.floor)

    def statistics_settings(self) -> Mapping[str, object]:
        return {"fisher": self.fisher}


@MERGES.register(
    "fisher",
    FisherMergingSettings,
    MergeInfo(
        title="Fisher merging",
        source="arXiv 2111.09832",
        kind=MethodKind.MERGE,
        spaces=("factors", "delta"),
        needs=("fisher",),
        convex=True,
        elementwise=True,
    ),
)
def fisher(inputs: MergeInput, settings: FisherMergingSettings) -> Merged:
    """The experts' mean, weighted at every entry by their Fisher information."""
    measured = {name: inputs.statistics["fisher"][name] for name in inputs.experts}
    if inputs.space == "factors" and settings.fold_scales:
        measured = {name: folded(measured[name], state) for name, state in inputs.experts.items()}
    norms = {
        name: norm(information, settings.floor) if settings.normalise else 1.0 for name, information in measured.items()
    }

    def weight(name: str, key: str) -> Tensor:
        """F_i / Σ_j F_j at every entry; computed when asked for, so that one tensor's are in memory at a time."""
        parts = {
            expert: information[key].clamp_min(settings.floor) / norms[expert]
            for expert, information in measured.items()
        }
        return parts[name] / torch.stack(list(parts.values())).sum(dim=0)

    weights = {
        name: LazyMapping(list(information), lambda key, name=name: weight(name, key))  # type: ignore[misc]
        for name, information in measured.items()
    }
    return Merged(combine(inputs.experts, inputs.space, weights, settings))


def norm(information: Mapping[str, Tensor], floor: float) -> float:
    """Euclidean norm over all entries of all tensors, none of them below the floor."""
    squares = [tensor.clamp_min(floor).double().square().sum() for tensor in information.values()]
    return float(torch.stack(squares).sum().sqrt())


def folded(information: Mapping[str, Tensor], state: LoraState) -> dict[str, Tensor]:
    """Fisher information of the factors with the LoRA scale s folded into B: a gradient to ``s · B`` is 1/s of B's."""
    scales = {factor_name(module, "B"): entry.scale for module, entry in state.header.items()}
    return {key: tensor / scales.get(key, 1.0) ** 2 for key, tensor in information.items()}
