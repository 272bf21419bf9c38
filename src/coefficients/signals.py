"""What a probe leaves behind, and what the formulas make of it: plain tensors, no model in sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Signals:
    """Everything the coefficients are computed from. N experts, M modalities, L layers, K samples, d features.

    Attributes:
        experts: N names.
        modalities: M names.
        own: for each expert, the index of its own modality in ``modalities``.
        backbone: modality -> span-pooled outputs of each decoder layer without any adapter, (L, K, d).
        responses: expert -> modality -> the same under that expert's adapter, (L, K, d).
        scores: expert -> tensor name -> accumulated gradient score in that tensor's shape; the name is a factor's
            (``lora.factor_name``) or a dense update's (``lora.delta_name``).
    """

    experts: tuple[str, ...]
    modalities: tuple[str, ...]
    own: tuple[int, ...]
    backbone: Mapping[str, Tensor]
    responses: Mapping[str, Mapping[str, Tensor]]
    scores: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Granularity:
    """How fine the coefficients are, and the constants of the formulas (config group ``granularity``).

    Attributes:
        name: ``layer``, ``element`` or ``joint``.
        temperature: T of the layer-wise softmax over experts.
        tau: temperature of the element-wise softmax over experts.
        projections: P, number of random directions of the sliced Wasserstein distance.
        power: p of the sliced Wasserstein distance.
        cross_weight: a, weight of the modalities an expert does not own.
        score: ``absolute`` sums |gradient|, ``squared`` sums its square.
    """

    name: str
    temperature: float = 0.5
    tau: float = 0.1
    projections: int = 1024
    power: float = 2.0
    cross_weight: float = 1.0
    score: str = "absolute"


@dataclass(frozen=True)
class Coefficients:
    """Merging weights; over the experts they sum to 1 at every entry.

    Attributes:
        layer: expert -> (L,); always present for ``layer`` and ``joint``, uniform for ``element``.
        elements: expert -> tensor name -> weights in the tensor's shape; empty for ``layer``.
    """

    layer: Mapping[str, Tensor]
    elements: Mapping[str, Mapping[str, Tensor]]

    def tensors(self) -> dict[str, Tensor]:
        """Flat names for storage: ``NAME.layer`` and ``NAME.<adapter tensor name>``."""
        flat = {f"{name}.layer": values for name, values in self.layer.items()}
        for name, tensors in self.elements.items():
            flat.update({f"{name}.{key}": value for key, value in tensors.items()})
        return flat
