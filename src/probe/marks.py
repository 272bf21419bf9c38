"""Where the modalities stand in a batch, in the form that every layer needs it; worked out once per batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from src.specialists.render import Batch


@dataclass(frozen=True)
class Marks:
    """Index tensors of one batch. S is the number of spans of a modality, B · T the number of positions.

    Attributes:
        means: modality -> (S, B · T) weights that take each span's mean, float32.
        tokens: modality -> positions of its tokens among the B · T.
    """

    means: Mapping[str, Tensor]
    tokens: Mapping[str, Tensor]

    @classmethod
    def of(cls, batch: Batch, modalities: Iterable[str]) -> Marks:
        """The marks of the modalities that occur in a batch."""
        rows, width = batch.mask.shape
        spans: dict[str, list[range]] = {}
        for row, found in enumerate(batch.spans):
            for span in found:
                spans.setdefault(span.modality, []).append(range(row * width + span.start, row * width + span.stop))
        kept = {name: spans[name] for name in modalities if name in spans}
        device = batch.embeds.device
        return cls(
            {name: _means(places, rows * width).to(device) for name, places in kept.items()},
            {name: torch.tensor([p for r in places for p in r]).to(device) for name, places in kept.items()},
        )

    def pooled(self, hidden: Tensor) -> dict[str, Tensor]:
        """Mean of each span, modality -> (S, hidden), float32."""
        flat = hidden.detach().flatten(0, 1).float()
        return {modality: weights @ flat for modality, weights in self.means.items()}


def _means(places: list[range], positions: int) -> Tensor:
    weights = torch.zeros(len(places), positions)
    for row, span in enumerate(places):
        weights[row, span.start : span.stop] = 1 / len(span)
    return weights
