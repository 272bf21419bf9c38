"""The files that hold the weights: what a release was unpacked to, and those of the two pre-trained networks.

A release's own trainer stores what it trained; Uni-Mol's and MoleculeSTM's weights then come from their own projects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from esmerge.adapters.release_parts import open_parts
from esmerge.adapters.torch_file import read_torch_file
from esmerge.core.errors import AdapterError

UNIMOL_STATE = "model"  # where Uni-Mol's trainer keeps the weights
PARTS = {"encoder": "encoder.", "projector": "llm_proj."}  # part -> what its names begin with in the release
UNIMOL, MOLECULESTM = "encoder.graph_encoder.unimol.", "encoder.graph_encoder.moleculestm."


@dataclass(frozen=True)
class ReleaseFiles:
    """Where the weights stand.

    Attributes:
        folder: that ``esmerge unpack release=mol_llama`` wrote, or the release as a Hugging Face folder.
        unimol: Uni-Mol's file, where the release holds no Uni-Mol.
        moleculestm: MoleculeSTM's file, where the release holds no MoleculeSTM.
    """

    folder: Path
    unimol: Path | None = None
    moleculestm: Path | None = None

    def hidden(self) -> int:
        """Width of the soft tokens; raises ``AdapterError`` where the projector is not there."""
        projector = open_parts(self.folder, PARTS)["projector"]
        if "weight" not in projector:
            raise AdapterError(f"{self.folder}: the projector lacks its weight: copy the release again")
        return len(projector["weight"])

    def read(self) -> dict[str, Tensor]:
        """Name in the release -> tensor.

        Raises:
            AdapterError: a file cannot be read, or two hold the same tensor.
        """
        tensors: dict[str, Tensor] = {}
        for part, stored in open_parts(self.folder, PARTS).items():
            tensors |= {PARTS[part] + name: tensor for name, tensor in stored.items()}
        for path, network in self._networks():
            shared = sorted(tensors.keys() & network.keys())
            if shared:
                raise AdapterError(
                    f"{path} holds {len(shared)} tensors that {self.folder} holds too, {shared[0]} among them: give it "
                    "only where the release lacks them"
                )
            tensors |= network
        return tensors

    def _networks(self) -> Iterator[tuple[Path, Mapping[str, Tensor]]]:
        for prefix, path in {UNIMOL: self.unimol, MOLECULESTM: self.moleculestm}.items():
            if path is not None:
                stored = read_torch_file(path, inside=UNIMOL_STATE)
                yield path, {prefix + name: tensor for name, tensor in stored.items()}
