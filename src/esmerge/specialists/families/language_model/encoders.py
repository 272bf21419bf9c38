"""Encoders of molecules and proteins: fixed features, a small trunk taught alone, a linear projector to soft tokens.

The features see the whole entity: a Morgan fingerprint, or the k-mers of a chain of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from esmerge.core.rng import generator
from esmerge.data.molecules import BITS, canonical_smiles, fingerprint
from esmerge.data.sequences import STANDARD, check_sequence
from esmerge.model.training import Schedule, train
from esmerge.specialists.families.language_model.lessons import Lesson

LETTERS = len(STANDARD) + 1  # the last stands for every residue beyond the standard twenty
HASHED = 512  # 3-mers share this many places
END = 30  # residues at either end that are counted once more: signal peptides and tags sit there
LOOKED_AT = 2000  # training entities behind the features' mean and deviation


@dataclass(frozen=True)
class EncoderSettings:
    """Training of an encoder's trunk on the lessons' answers, without the backbone.

    Attributes:
        steps: updates; ``batch`` entities of every lesson each.
        width: units of the trunk, which are the frozen features.
        tokens: soft tokens per entity.
    """

    steps: int = 150
    batch: int = 64
    rate: float = 1e-3
    weight_decay: float = 0.1
    width: int = 128
    tokens: int = 8


@dataclass(frozen=True)
class Features:
    """Fixed features of one kind of entity.

    Attributes:
        check: raw form -> the form that is read; raises ``InputError`` naming an invalid value.
        compute: checked form -> (size,) vector.
        size: number of features.
    """

    check: Callable[[str], str]
    compute: Callable[[str], NDArray[np.float32]]
    size: int


def kmers(sequence: str) -> NDArray[np.float32]:
    """Composition of a chain, as square roots of frequencies, so that each block has unit length.

    Blocks: residues, pairs, hashed triples, the first and the last residues; then the logarithm of the length.
    """
    codes = _CODES[np.frombuffer(sequence.encode(), dtype=np.uint8)]
    pairs = codes[:-1] * LETTERS + codes[1:]
    triples = (pairs[:-1] * LETTERS + codes[2:]) * 2654435761 % 2**32 * HASHED >> 32  # Fibonacci hashing
    blocks = [(codes, LETTERS), (pairs, LETTERS**2), (triples, HASHED), (codes[:END], LETTERS), (codes[-END:], LETTERS)]
    counts = [np.bincount(block, minlength=size) / max(1, len(block)) for block, size in blocks]
    return np.concatenate([*map(np.sqrt, counts), [np.log(len(sequence)) / 10]]).astype(np.float32)


_CODES = np.full(256, LETTERS - 1, dtype=np.int64)
_CODES[np.frombuffer(STANDARD.encode(), dtype=np.uint8)] = np.arange(len(STANDARD))

FEATURES = {
    "fingerprint": Features(canonical_smiles, fingerprint, BITS),
    "kmers": Features(check_sequence, kmers, LETTERS**2 + 3 * LETTERS + HASHED + 1),
}


class SoftTokenEncoder(nn.Module):
    """A modality's frozen features, projected to soft tokens as long as the backbone's word embeddings are.

    Args:
        modality: what it perceives.
        kind: name of its features.
        settings: widths.
        hidden: width of the backbone's embeddings.
    """

    mean: Tensor  # of the features, (size,)
    spread: Tensor  # of the features, (1,)
    scale: Tensor  # root mean square of the backbone's embeddings, (1,)

    def __init__(self, modality: str, kind: str, settings: EncoderSettings, hidden: int) -> None:
        super().__init__()
        self.modality, self.tokens, self.kind = modality, settings.tokens, FEATURES[kind]
        for name, start in {
            "mean": torch.zeros(self.kind.size),
            "spread": torch.ones(1),
            "scale": torch.ones(1),
        }.items():
            self.register_buffer(name, start)
        self.trunk = nn.Linear(self.kind.size, settings.width)
        self.projector = nn.Linear(settings.width, settings.tokens * hidden)
        self._known: dict[str, Tensor] = {}

    def prepare(self, values: Sequence[str]) -> Tensor:
        """Fixed features, (n, size); raises ``InputError`` naming an invalid value."""
        return torch.from_numpy(np.stack([self.kind.compute(self.kind.check(value)) for value in values]))

    def perceive(self, prepared: Tensor) -> Tensor:
        """Fixed features to the trunk's, (n, width)."""
        hidden = functional.gelu(self.trunk((prepared - self.mean) / self.spread))
        return functional.layer_norm(hidden, hidden.shape[1:])

    def features(self, values: Sequence[str]) -> Tensor:
        """The frozen trunk's features, (n, width); each entity is looked at once."""
        new = [value for value in dict.fromkeys(values) if value not in self._known]
        if new:
            with torch.no_grad():
                found = self.perceive(self.prepare(new).to(self.trunk.weight.device))
            self._known.update(zip(new, found, strict=True))
        return torch.stack([self._known[value] for value in values])

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens, (tokens, hidden) for each entity."""
        projected = self.projector(self.features(values)).unflatten(1, (self.tokens, -1))
        return list(functional.rms_norm(projected, projected.shape[-1:]) * self.scale)


def make_encoder(
    modality: str, kind: str, settings: EncoderSettings, embeddings: Tensor, seed: int
) -> SoftTokenEncoder:
    """An untrained encoder whose soft tokens are as long as the backbone's ``embeddings``, (vocabulary, hidden)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = SoftTokenEncoder(modality, kind, settings, embeddings.shape[1])
    encoder.scale.fill_(float(embeddings.float().square().mean().sqrt()))
    return encoder


def train_trunk(
    encoder: SoftTokenEncoder, lessons: Sequence[Lesson], settings: EncoderSettings, seed: int, checkpoint: Path
) -> float:
    """Teach the trunk to answer the lessons by itself, with a head for each; returns the final loss."""
    values = list(dict.fromkeys(value for lesson in lessons for column in lesson.train for value in column))
    place = {value: row for row, value in enumerate(values)}
    prepared = encoder.prepare(values)
    _standardise(encoder, prepared[generator(seed, "features").permutation(len(values))[:LOOKED_AT]])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = nn.ModuleList(nn.Linear(settings.width, len(lesson.labels)) for lesson in lessons)

    def loss_at(step: int) -> Tensor:
        total = torch.zeros(())
        for lesson, head in zip(lessons, heads, strict=True):
            rng = generator(seed, f"trunk-{lesson.name}", step)
            answers = rng.integers(len(lesson.labels), size=settings.batch)
            rows = [place[lesson.train[a][rng.integers(len(lesson.train[a]))]] for a in answers]
            logits = head(encoder.perceive(prepared[rows]))
            total = total + functional.cross_entropy(logits, torch.from_numpy(answers))
        return total

    parameters = [*encoder.trunk.parameters(), *heads.parameters()]
    schedule = Schedule(settings.steps, settings.rate, settings.weight_decay)
    return train(f"{encoder.modality} encoder", parameters, loss_at, schedule, checkpoint)


def save_encoder(encoder: SoftTokenEncoder, folder: Path) -> None:
    """Write all weights to ``<folder>/<modality>.safetensors``."""
    save_file(encoder.state_dict(), folder / f"{encoder.modality}.safetensors")


def load_encoder(encoder: SoftTokenEncoder, folder: Path) -> SoftTokenEncoder:
    """Read weights into an encoder of the same shape, and freeze it."""
    encoder.load_state_dict(load_file(folder / f"{encoder.modality}.safetensors"))
    return encoder.eval().requires_grad_(False)


def _standardise(encoder: SoftTokenEncoder, prepared: Tensor) -> None:
    """Features are centred one by one, but scaled together: a rare bit must not weigh more than a common one."""
    encoder.mean.copy_(prepared.mean(dim=0))
    encoder.spread.fill_(float((prepared - encoder.mean).square().mean().sqrt().clamp(min=1e-6)))
