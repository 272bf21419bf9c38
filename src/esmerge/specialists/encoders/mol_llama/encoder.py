"""Molecules as Mol-LLaMA perceives them: SMILES in, soft tokens out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esmerge.core.errors import InputError
from esmerge.specialists.encoders.mol_llama.inputs import batched, molecule_input
from esmerge.specialists.encoders.mol_llama.network import MolLlamaNetwork

ATTEMPTS = 10_000  # of the distance geometry, as Mol-LLaMA makes
SHOWN = 20  # molecules that a message lists


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


class MolLlamaEncoder:
    """The network as an encoder of molecules.

    Args:
        modality: what it perceives.
        network: with its weights.
        seed: of conformers.
        attempts: of the distance geometry.
    """

    def __init__(self, modality: str, network: MolLlamaNetwork, seed: int = 0, attempts: int = ATTEMPTS) -> None:
        self.modality, self.network, self.seed, self.attempts = modality, network, seed, attempts

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens of each molecule, (queries, hidden) each.

        Raises:
            InputError: molecules cannot be encoded; all are counted and the first of them named, each with its reason.
        """
        tokens: dict[str, Tensor] = {}
        rejects: list[str] = []
        for value in dict.fromkeys(values):
            try:
                tokens[value] = encode(self.network, value, self.seed, self.attempts)
            except InputError as error:
                rejects.append(str(error))
        if rejects:
            more = f"\n  and {len(rejects) - SHOWN} more" if len(rejects) > SHOWN else ""
            listed = "\n  ".join(rejects[:SHOWN])
            raise InputError(
                f"{len(rejects)} of {len(set(values))} molecules cannot be encoded:\n  {listed}{more}\nLeave them out"
            )
        return [tokens[value] for value in values]
