"""What a probe leaves behind, and what the formulas make of it: plain tensors, no model in sight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from esmerge.coefficients.formulas import increments


class Layered(Protocol):
    """A tensor of one block per layer, or what reads such blocks from disk when they are looked at."""

    @property
    def shape(self) -> torch.Size: ...

    def __getitem__(self, layers: slice) -> Tensor: ...


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
    backbone: Mapping[str, Layered]
    responses: Mapping[str, Mapping[str, Layered]]
    scores: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class ESConfig:
    """The constants of the formulas and how fine the coefficients are (config group ``granularity``).

    Attributes:
        name: ``layer``, ``element`` or ``joint``.
        temperature: T of the layer-wise softmax over experts.
        tau: temperature of the element-wise softmax over experts.
        projections: P, number of random directions of the sliced Wasserstein distance; ``auto`` adds directions until
            every coefficient's standard error over them is within ``tolerance``.
        power: p of the sliced Wasserstein distance.
        cross_weight: a, weight of the modalities an expert does not own.
        score: ``absolute`` sums |gradient|, ``squared`` sums its square.
        tolerance: largest standard error that ``projections=auto`` leaves.
        resamples: bootstrap resamples of the probe behind the coefficients' standard errors; 0 for none.
    """

    name: str
    temperature: float = 0.5
    tau: float = 0.1
    projections: int | str = 1024
    power: float = 2.0
    cross_weight: float = 1.0
    score: str = "absolute"
    tolerance: float = 0.01
    resamples: int = 20


@dataclass(frozen=True)
class LayerDistances:
    """How far every expert moves every modality in every layer. N experts, M modalities, L layers.

    Attributes:
        experts, modalities: N and M names.
        own: for each expert, the index of its own modality in ``modalities``.
        values: (N, M, L), sliced Wasserstein distances of an expert's responses from the backbone's.
    """

    experts: tuple[str, ...]
    modalities: tuple[str, ...]
    own: tuple[int, ...]
    values: Tensor

    def rows(self) -> list[dict[str, object]]:
        """One row per expert, modality and layer: whether it is the expert's own, the distance, and its increment."""
        added = increments(self.values)
        return [
            {
                "expert": expert,
                "modality": modality,
                "own": self.own[i] == t,
                "layer": layer,
                "distance": float(self.values[i, t, layer]),
                "increment": float(added[i, t, layer]),
            }
            for i, expert in enumerate(self.experts)
            for t, modality in enumerate(self.modalities)
            for layer in range(self.values.shape[-1])
        ]


@dataclass(frozen=True)
class Coefficients:
    """Merging weights; over the experts they sum to 1 at every entry.

    Attributes:
        layer: expert -> (L,); always present for ``layer`` and ``joint``, uniform for ``element``.
        elements: expert -> tensor name -> weights in the tensor's shape; empty for ``layer``.
        errors: ``directions`` or ``probe`` -> expert -> (L,), standard error of ``layer`` over either; may be empty.
        distances: that ``layer`` was computed from; None where it was not, or where the weights were rearranged since.
    """

    layer: Mapping[str, Tensor]
    elements: Mapping[str, Mapping[str, Tensor]]
    errors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    distances: LayerDistances | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Flat names for storage: ``NAME.layer`` and ``NAME.<adapter tensor name>``."""
        flat = {f"{name}.layer": values for name, values in self.layer.items()}
        for name, tensors in self.elements.items():
            flat.update({f"{name}.{key}": value for key, value in tensors.items()})
        return flat

    def layer_rows(self) -> list[dict[str, Any]]:
        """One row per expert and layer: the layer-wise coefficient and its standard errors, where they are known."""
        return [
            {"expert": name, "layer": layer, "coefficient": float(value)}
            | {f"error_{kind}": float(errors[name][layer]) for kind, errors in self.errors.items()}
            for name, values in self.layer.items()
            for layer, value in enumerate(values)
        ]


def from_tensors(tensors: Mapping[str, Tensor]) -> Coefficients:
    """What ``Coefficients.tensors`` gave the names of, again; an expert's name may hold no dot."""
    experts = [name.removesuffix(".layer") for name in tensors if name.endswith(".layer")]
    elements = {
        expert: {
            name.removeprefix(f"{expert}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{expert}.") and name != f"{expert}.layer"
        }
        for expert in experts
    }
    layer = {expert: tensors[f"{expert}.layer"] for expert in experts}
    return Coefficients(layer, elements if any(elements.values()) else {})
