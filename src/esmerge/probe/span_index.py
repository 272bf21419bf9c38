"""Where the modalities stand in a pass, in the form that every layer needs it; worked out once per pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core.devices import moved
from esmerge.probe.packing import PackedBatch

STEEPEST = 2.0**-3  # of a scaled loss: the layer may make it 2¹⁸ times as large, and 2⁻²¹ times as small is not zero


@dataclass(frozen=True)
class SpanIndex:
    """Index tensors of one pass of B prompts. S is the number of spans of a modality, B · T the number of positions.

    Attributes:
        means: modality -> (S, B · T) weights that take each span's mean, float32.
        tokens: modality -> positions of its tokens among the B · T.
        shares: modality -> for each of these, 1 / the number of them in its batch, float32.
    """

    means: Mapping[str, Tensor]
    tokens: Mapping[str, Tensor]
    shares: Mapping[str, Tensor]

    @classmethod
    def of(cls, packed: PackedBatch, modalities: Iterable[str]) -> SpanIndex:
        """The index of the modalities that occur in a pass."""
        batch, ends = packed.batch, torch.tensor(packed.ends())
        rows, width = batch.mask.shape
        spans: dict[str, list[range]] = {}
        for row, row_spans in enumerate(batch.spans):
            for span in row_spans:
                spans.setdefault(span.modality, []).append(range(row * width + span.start, row * width + span.stop))
        present = {name: spans[name] for name in modalities if name in spans}
        device = batch.embeds.device
        tokens = {name: torch.tensor([p for span in ranges for p in span]) for name, ranges in present.items()}
        return cls(
            {name: moved(_means(ranges, rows * width), device) for name, ranges in present.items()},
            {name: moved(positions, device) for name, positions in tokens.items()},
            {name: moved(_shares(torch.bucketize(p, ends, right=True)), device) for name, p in tokens.items()},
        )

    def loss(self, modality: str, moved: Tensor, still: Tensor) -> Tensor:
        """Σ over batches of the mean squared difference over a modality's tokens and features; (B, T, hidden) each."""
        return self._gap(modality, moved, still).square().mean(dim=1) @ self.shares[modality]

    def scale(self, modality: str, moved: Tensor, still: Tensor) -> Tensor | None:
        """A power of two that brings a loss's gradients into the range of float16; None in other number formats.

        A mean over thousands of tokens and features has gradients below 6e-8, which float16 holds as zero.
        """
        if moved.dtype != torch.float16:
            return None
        gap = self._gap(modality, moved.detach(), still)
        steepest = 2 / gap.shape[1] * (gap.abs().amax(dim=1) * self.shares[modality]).max()
        return torch.where(steepest > 0, torch.exp2(torch.log2(STEEPEST / steepest).floor()), 1.0)

    def _gap(self, modality: str, moved: Tensor, still: Tensor) -> Tensor:
        """(tokens, hidden), float32."""
        positions = self.tokens[modality]
        return moved.flatten(0, 1)[positions].float() - still.flatten(0, 1)[positions].float()

    def pooled(self, hidden: Tensor) -> dict[str, Tensor]:
        """Mean of each span, modality -> (S, hidden), float32."""
        flat = hidden.detach().flatten(0, 1).float()
        return {modality: weights @ flat for modality, weights in self.means.items()}


def _means(spans: list[range], positions: int) -> Tensor:
    weights = torch.zeros(len(spans), positions)
    for row, span in enumerate(spans):
        weights[row, span.start : span.stop] = 1 / len(span)
    return weights


def _shares(batches: Tensor) -> Tensor:
    """1 / how often each batch occurs, at each of its tokens."""
    return 1 / batches.bincount()[batches]
