"""Proteins under one convolution, max-pooled over each half: what the embedded specialists perceive with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from esmerge.core.validation import at_least
from esmerge.data.sequences import STANDARD, check_sequence
from esmerge.specialists.soft_tokens.api import ENCODERS, FeatureEncoder, Trunk


@dataclass(frozen=True)
class MotifSettings:
    """The convolution's window.

    Attributes:
        motif: residues that it sees at once.
        longest: residues of a protein that are looked at.
    """

    motif: int = 9
    longest: int = 2048

    def __post_init__(self) -> None:
        at_least(self, "encoder", 1, "motif")
        at_least(self, "encoder", 2 * self.motif, "longest")


class MotifScanner(Trunk):
    """One convolution over the residues, max-pooled over each half of the chain."""

    def __init__(self, motif: int, width: int) -> None:
        super().__init__()
        self.motif = motif
        self.scan = nn.Conv1d(len(STANDARD), width, motif)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, residues: Tensor) -> Tensor:
        """(n, letters + 1, length) -> (n, width); the last channel says where a chain has residues.

        Halves are those of each chain, so that its features do not depend on what it is padded to.
        """
        scanned = functional.relu(self.scan(residues[:, :-1]))
        windows = residues[:, -1].sum(dim=1, keepdim=True) - self.motif + 1
        index = torch.arange(scanned.shape[2], device=scanned.device)[None, :]
        first = (index < windows // 2)[:, None, :]
        second = ((index >= windows // 2) & (index < windows))[:, None, :]
        pooled = torch.cat([(scanned * first).amax(2), (scanned * second).amax(2)], dim=1)
        return functional.relu(self.mix(pooled))


def one_hot(values: Sequence[str], settings: MotifSettings) -> Tensor:
    """Sequences as (n, letters + 1, length) indicators; the last channel marks residues, whatever their letter.

    The length is that of the longest sequence, at least two motifs and at most ``longest``.

    Warns of sequences that are longer, with their number.

    Raises:
        InputError: a letter is no amino acid's; the message names sequence and position.
    """
    for value in values:
        check_sequence(value)
    cut = sum(len(value) > settings.longest for value in values)
    if cut:
        warnings.warn(
            f"{cut} of {len(values)} proteins are longer than encoder.longest={settings.longest} residues: the first "
            f"{settings.longest} of each are read (benchmark.protein_window cuts them for every reader)",
            stacklevel=2,
        )
    length = max(2 * settings.motif, min(settings.longest, max(len(value) for value in values)))
    residues = np.zeros((len(values), len(STANDARD) + 1, length), dtype=np.float32)
    for row, value in zip(residues, values, strict=True):
        row[-1, : len(value)] = 1.0
        for position, letter in enumerate(value[: settings.longest]):
            if letter in STANDARD:
                row[STANDARD.index(letter), position] = 1.0
    return torch.from_numpy(residues)


@ENCODERS.register("motif_convolution", MotifSettings)
def motif_convolution(settings: MotifSettings) -> FeatureEncoder:
    """Sequence -> residues as indicators -> one convolution -> one ReLU layer."""
    return FeatureEncoder(
        check_sequence,
        lambda values: one_hot(values, settings),
        lambda width: MotifScanner(settings.motif, width),
        batch_size=256,
    )
