"""The files that hold the weights: what a release was unpacked to, and those of the two pre-trained networks.

A release's own trainer stores what it trained; Uni-Mol's and MoleculeSTM's weights then come from their own projects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from esmerge.adapters.torch_file import ENDINGS, read_torch_file
from esmerge.core.errors import AdapterError

UNIMOL_STATE = "model"  # where Uni-Mol's trainer keeps the weights
ENCODER, PROJECTOR = "encoder.", "llm_proj."
UNIMOL, MOLECULESTM = "encoder.graph_encoder.unimol.", "encoder.graph_encoder.moleculestm."
PARTS = "parts"


@dataclass(frozen=True)
class ReleaseFiles:
    """Where the weights stand.

    Attributes:
        folder: that ``esmerge unpack release=mol_llama`` wrote.
        unimol: Uni-Mol's file, where the release holds no Uni-Mol.
        moleculestm: MoleculeSTM's file, where the release holds no MoleculeSTM.
    """

    folder: Path
    unimol: Path | None = None
    moleculestm: Path | None = None

    def read(self) -> dict[str, Tensor]:
        """Name in the release -> tensor.

        Raises:
            AdapterError: a file cannot be read, or two hold the same tensor.
        """
        tensors: dict[str, Tensor] = {}
        for prefix, path in self._parts():
            part = {prefix + name: tensor for name, tensor in _read(path).items()}
            again = sorted(tensors.keys() & part.keys())
            if again:
                raise AdapterError(
                    f"{path} holds {len(again)} tensors that {self.folder} holds too, {again[0]} among them: give it "
                    "only where the release lacks them"
                )
            tensors |= part
        return tensors

    def _parts(self) -> Iterator[tuple[str, Path]]:
        yield ENCODER, self.folder / PARTS / "encoder.safetensors"
        yield PROJECTOR, self.folder / PARTS / "projector.safetensors"
        for prefix, path in {UNIMOL: self.unimol, MOLECULESTM: self.moleculestm}.items():
            if path is not None:
                yield prefix, path


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix in ENDINGS:
        return read_torch_file(path, inside=UNIMOL_STATE)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path} cannot be read ({error}): expected safetensors as esmerge unpack release=mol_llama writes them, "
            f"or a file that ends in {', '.join(ENDINGS)}"
        ) from error
