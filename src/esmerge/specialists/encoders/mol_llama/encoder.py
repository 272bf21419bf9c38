"""Molecules as the released Mol-LLaMA perceives them: SMILES in, 8 soft tokens out. github.com/DongkiKim95/Mol-LLaMA"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import rdkit
import torch
import transformers
from torch import Tensor

from esmerge.core.paths import user_path
from esmerge.core.validation import at_least
from esmerge.data.molecules import canonical_smiles
from esmerge.specialists.encoders.mol_llama.files import ReleaseFiles
from esmerge.specialists.encoders.mol_llama.inputs import batched, molecule_input
from esmerge.specialists.encoders.mol_llama.loading import load_network
from esmerge.specialists.encoders.mol_llama.network import MolLlamaNetwork
from esmerge.specialists.soft_tokens.released import (
    RELEASED,
    Encode,
    Inspection,
    ReleasedEncoder,
    ReleasedSettings,
)
from esmerge.storage.cache import digest
from esmerge.storage.code import closure_digest
from esmerge.storage.tensor_digest import tensors_digest

ATTEMPTS = 10_000  # of the distance geometry, as Mol-LLaMA makes


@dataclass(frozen=True)
class MolLlamaSettings(ReleasedSettings):
    """Where the encoder lies, and how conformers are made; weights are float32, ``dtype`` is of soft tokens alone.

    Attributes:
        unimol: ``mol_pre_no_h_220816.pt`` of Uni-Mol, where the release holds no Uni-Mol.
        moleculestm: ``molecule_model.pth`` of MoleculeSTM, where the release holds no MoleculeSTM.
        seed: of conformers.
        attempts: of the distance geometry, before a molecule is refused.
        blending_heads: heads of attention in the blending module, which no weight tells.
        qformer_heads: likewise, in the Q-Former.
    """

    unimol: str | None = None
    moleculestm: str | None = None
    seed: int = 0
    attempts: int = ATTEMPTS
    blending_heads: int = 8
    qformer_heads: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "encoder", 0, "seed")
        at_least(self, "encoder", 1, "attempts", "blending_heads", "qformer_heads")

    def files(self) -> ReleaseFiles:
        """Where the weights stand."""
        networks = {"unimol": self.unimol, "moleculestm": self.moleculestm}
        paths = {name: _path(value, name) for name, value in networks.items()}
        return ReleaseFiles(user_path(str(self.path), "encoder.path"), **paths)


def _path(value: str | None, setting: str) -> Path | None:
    return None if value is None else user_path(value, f"encoder.{setting}")


@RELEASED.register("mol_llama", MolLlamaSettings)
def mol_llama(settings: MolLlamaSettings) -> ReleasedEncoder:
    """SMILES -> conformer and graph -> Uni-Mol and GIN -> blending module -> Q-Former -> projector."""
    release = _Release(settings)
    inspection = Inspection(release.inspect, lambda: release.inspection_digest)
    return ReleasedEncoder(canonical_smiles, settings.files().hidden, release.digest, release.load, inspection)


def encode(network: MolLlamaNetwork, smiles: str, seed: int = 0, attempts: int = ATTEMPTS) -> Tensor:
    """Soft tokens of a molecule, (queries, hidden), which nothing but the molecule, weights and seed decide.

    Args:
        network: with its weights.
        smiles: the molecule.
        seed: of its conformer.
        attempts: of the distance geometry.

    Raises:
        InputError: the SMILES is no molecule, or has no conformer.
    """
    with torch.no_grad():
        tokens: Tensor = network(batched([molecule_input(smiles, seed, attempts)]))[0]
    return tokens


class _Release:
    """The encoder on disk; its files are opened when something of it is asked for."""

    def __init__(self, settings: MolLlamaSettings) -> None:
        self._settings = settings

    def digest(self) -> str:
        """Content hash of weights, conformers' settings, number format, versions and code."""
        settings = self._settings
        conformers = (settings.seed, settings.attempts)
        heads = (settings.blending_heads, settings.qformer_heads)
        versions = (torch.__version__, transformers.__version__, rdkit.__version__)
        return digest([self._weights, conformers, heads, settings.dtype, versions, closure_digest(mol_llama)])

    def inspect(self, smiles: str) -> None:
        """Make what the encoder reads of a molecule, and drop it; raises ``InputError`` where that is not to be had."""
        molecule_input(smiles, self._settings.seed, self._settings.attempts)

    @cached_property
    def inspection_digest(self) -> str:
        """Content hash of conformers' settings, RDKit's version and code."""
        conformers = (self._settings.seed, self._settings.attempts)
        return digest([conformers, rdkit.__version__, closure_digest(molecule_input)])

    def load(self, device: torch.device) -> Encode:
        """All weights, on a device; raises ``AdapterError`` listing those that have no place or are missing."""
        settings = self._settings
        tensors, title = settings.files().read(), str(settings.path)
        network = load_network(tensors, title, settings.blending_heads, settings.qformer_heads).to(device)

        def encode_smiles(smiles: str) -> Tensor:
            return encode(network, smiles, settings.seed, settings.attempts).to(settings.torch_dtype())

        return encode_smiles

    @cached_property
    def _weights(self) -> str:
        return tensors_digest(self._settings.files().read())
