"""Molecule and protein encoders: trained alone on descriptors, then frozen, with a linear projector to soft tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from esmerge.core.errors import InputError
from esmerge.core.rng import generator
from esmerge.core.validation import above_zero, at_least
from esmerge.model.training import Schedule, train
from esmerge.world.entities import Pool
from esmerge.world.proteins import AMINO_ACIDS, MOTIF
from esmerge.world.world import PARTS

BITS, RADIUS = 512, 2
LONGEST = 2048  # residues of a protein that are looked at
ALLOWED = frozenset("ACDEFGHIKLMNPQRSTVWYXUBZOJ")  # the rare letters are real codes; they carry no signal here


@dataclass(frozen=True)
class EncoderSettings:
    """Training of an encoder on its descriptors.

    Attributes:
        steps: updates; ``batch`` entities each.
        width: hidden units, which are the frozen features.
    """

    steps: int = 300
    batch: int = 128
    rate: float = 3e-3
    width: int = 64

    def __post_init__(self) -> None:
        at_least(self, "specialists.encoder", 1, "steps", "batch", "width")
        above_zero(self, "specialists.encoder", "rate")


class SoftTokenEncoder(nn.Module):
    """Frozen features of an entity, projected to a fixed number of soft tokens.

    Args:
        modality: what it perceives.
        trunk: input tensor -> (n, width) features.
        width: number of features.
        hidden: width of the backbone's embeddings.
        tokens: soft tokens per entity.
    """

    def __init__(self, modality: str, trunk: nn.Module, width: int, hidden: int, tokens: int = 8) -> None:
        super().__init__()
        self.modality = modality
        self.tokens = tokens
        self.trunk = trunk
        self.heads = nn.ModuleList(nn.Linear(width, PARTS) for _ in range(2))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.projector = nn.Linear(width, tokens * hidden)
        self._known: dict[str, Tensor] = {}

    def prepare(self, values: Sequence[str]) -> Tensor:
        """Raw forms to the trunk's input; raises ``InputError`` naming an invalid value."""
        return PREPARE[self.modality](values)

    def features(self, values: Sequence[str]) -> Tensor:
        """Frozen features, (n, width); each entity is looked at once."""
        new = [value for value in dict.fromkeys(values) if value not in self._known]
        with torch.no_grad():
            for start in range(0, len(new), 256):
                part = new[start : start + 256]
                inputs = self.prepare(part).to(self.projector.weight.device)
                self._known.update(zip(part, self.norm(self.trunk(inputs)), strict=True))
        return torch.stack([self._known[value] for value in values])

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens, (tokens, hidden) for each entity."""
        projected = self.projector(self.features(values))
        return list(projected.unflatten(1, (self.tokens, -1)))


class MotifScanner(nn.Module):
    """One convolution over the residues, max-pooled over each half of the chain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scan = nn.Conv1d(len(AMINO_ACIDS), width, MOTIF)
        self.mix = nn.Linear(2 * width, width)

    def forward(self, residues: Tensor) -> Tensor:
        """(n, letters + 1, length) -> (n, width); the last channel says where a chain has residues.

        Halves are those of each chain, so that its features do not depend on what it is padded to.
        """
        found = functional.relu(self.scan(residues[:, :-1]))
        places = residues[:, -1].sum(dim=1, keepdim=True) - MOTIF + 1
        index = torch.arange(found.shape[2], device=found.device)[None, :]
        first = (index < places // 2)[:, None, :]
        second = ((index >= places // 2) & (index < places))[:, None, :]
        pooled = torch.cat([(found * first).amax(2), (found * second).amax(2)], dim=1)
        return functional.relu(self.mix(pooled))


def make_encoder(modality: str, settings: EncoderSettings, hidden: int, seed: int) -> SoftTokenEncoder:
    """An untrained encoder; each modality draws weights of its own, so that soft tokens share no subspace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, f"encoder-{modality}-init").integers(2**31)))
        trunk: nn.Module = MotifScanner(settings.width)
        if modality == "molecule":
            trunk = nn.Sequential(nn.Linear(BITS, settings.width), nn.ReLU())
        return SoftTokenEncoder(modality, trunk, settings.width, hidden)


def train_encoder(
    encoder: SoftTokenEncoder, pool: Pool, settings: EncoderSettings, seed: int, checkpoint: Path
) -> None:
    """Teach the trunk which two parts an entity is made of; the heads are used for this alone."""
    inputs, parts = encoder.prepare(pool.values), torch.from_numpy(pool.parts)

    def loss_at(step: int) -> Tensor:
        rows = generator(seed, f"encoder-{encoder.modality}", step).integers(len(parts), size=settings.batch)
        features = encoder.trunk(inputs[rows])
        return sum(functional.cross_entropy(head(features), parts[rows, i]) for i, head in enumerate(encoder.heads))  # type: ignore[return-value]

    parameters = [*encoder.trunk.parameters(), *encoder.heads.parameters()]
    train(f"{encoder.modality} encoder", parameters, loss_at, Schedule(settings.steps, settings.rate, 0.01), checkpoint)


def parts_accuracy(encoder: SoftTokenEncoder, pool: Pool) -> float:
    """Share of entities whose two parts are both recognised."""
    with torch.no_grad():
        features = encoder.trunk(encoder.prepare(pool.values))
        found = torch.stack([head(features).argmax(1) for head in encoder.heads], dim=1)
    return float((found == torch.from_numpy(pool.parts)).all(1).float().mean())


def save_encoder(encoder: SoftTokenEncoder, folder: Path) -> None:
    """Write all weights to ``<folder>/<modality>.safetensors``."""
    save_file(encoder.state_dict(), folder / f"{encoder.modality}.safetensors")


def load_encoder(encoder: SoftTokenEncoder, folder: Path) -> SoftTokenEncoder:
    """Read weights into an encoder of the same shape, and freeze it."""
    encoder.load_state_dict(load_file(folder / f"{encoder.modality}.safetensors"))
    return encoder.eval().requires_grad_(False)


def fingerprints(values: Sequence[str]) -> Tensor:
    """Morgan fingerprints (radius 2), (n, BITS)."""
    maker = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    rows = np.zeros((len(values), BITS), dtype=np.float32)
    with rdBase.BlockLogs():  # our error says the same and more
        for row, value in zip(rows, values, strict=True):
            molecule = Chem.MolFromSmiles(value)
            if molecule is None or not molecule.GetNumAtoms():
                raise InputError(f"SMILES {value!r} is not a molecule that RDKit can read: correct or drop the row")
            row[:] = maker.GetFingerprintAsNumPy(molecule)
    return torch.from_numpy(rows)


def one_hot(values: Sequence[str]) -> Tensor:
    """Sequences as (n, letters + 1, longest) indicators; the last channel marks residues, whatever their letter."""
    for value in values:
        check_sequence(value)
    width = max(2 * MOTIF, min(LONGEST, max(len(value) for value in values)))
    residues = np.zeros((len(values), len(AMINO_ACIDS) + 1, width), dtype=np.float32)
    for row, value in zip(residues, values, strict=True):
        row[-1, : len(value)] = 1.0
        for place, letter in enumerate(value[:LONGEST]):
            if letter in AMINO_ACIDS:
                row[AMINO_ACIDS.index(letter), place] = 1.0
    return torch.from_numpy(residues)


def check_sequence(value: str) -> None:
    """Raise ``InputError`` naming the first letter that is no amino acid."""
    if not value:
        raise InputError("an amino-acid sequence is empty: correct or drop the row")
    for place, letter in enumerate(value, start=1):
        if letter not in ALLOWED:
            raise InputError(f"sequence {value[:12]!r}… has {letter!r} at position {place}: no amino acid's letter")


PREPARE = {"molecule": fingerprints, "protein": one_hot}
