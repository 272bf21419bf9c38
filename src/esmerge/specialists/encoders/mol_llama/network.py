"""The whole network: both encoders, the blending module, the Q-Former and the projector."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from esmerge.specialists.encoders.mol_llama.blending import FLAT, SPATIAL, BlendingModule
from esmerge.specialists.encoders.mol_llama.gin import GinShape, MoleculeStm
from esmerge.specialists.encoders.mol_llama.inputs import Batch
from esmerge.specialists.encoders.mol_llama.qformer import QFormerShape, ask, bert_name, qformer
from esmerge.specialists.encoders.mol_llama.unimol import UniMol, UniMolShape

QFORMER = "Qformer."


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the network; the defaults are the release's.

    Attributes:
        unimol: of the conformer's encoder.
        gin: of the graph's encoder.
        blending_layers: of the blending module.
        blending_heads: of its attention.
        qformer: of the Q-Former; its ``context`` is the width of the blending module.
        hidden: of the language model.
    """

    unimol: UniMolShape = field(default_factory=UniMolShape)
    gin: GinShape = field(default_factory=GinShape)
    blending_layers: int = 4
    blending_heads: int = 8
    qformer: QFormerShape = field(default_factory=QFormerShape)
    hidden: int = 4096


class MolLlamaNetwork(nn.Module):
    """Molecules to soft tokens.

    Args:
        shape: sizes.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        widths = {FLAT: shape.gin.width, SPATIAL: shape.unimol.width}
        self.graph_encoder = nn.ModuleDict({SPATIAL: UniMol(shape.unimol), FLAT: MoleculeStm(shape.gin)})
        self.ln_graph = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in widths.items()})
        self.blending_module = BlendingModule(
            widths, shape.qformer.context, shape.blending_layers, shape.blending_heads
        )
        self.Qformer = qformer(shape.qformer)
        self.query_tokens = nn.Parameter(torch.zeros(1, shape.qformer.queries, shape.qformer.width))
        self.llm_proj = nn.Linear(shape.qformer.width, shape.hidden)

    def forward(self, batch: Batch) -> Tensor:
        """b molecules -> (b, queries, hidden)."""
        device = self.query_tokens.device
        spatial = self.graph_encoder[SPATIAL](batch.types.to(device), batch.distances.to(device))
        encoded = {SPATIAL: spatial, FLAT: self.graph_encoder[FLAT](batch.graphs)}
        nodes = {name: self.ln_graph[name](rows) for name, (rows, _) in encoded.items()}
        blended, mask = self.blending_module(nodes, {name: mask for name, (_, mask) in encoded.items()})
        tokens: Tensor = self.llm_proj(ask(self.Qformer, self.query_tokens, blended, mask))
        return tokens


def release_name(name: str) -> str:
    """The release's name of one of the network's tensors; its projector stands beside its ``encoder.``."""
    if name.startswith("llm_proj."):
        return name
    if name.startswith(QFORMER):
        return f"encoder.{QFORMER}" + bert_name(name.removeprefix(QFORMER))
    plain = name.replace("atom_encoder.tables.", "atom_encoder.atom_embedding_list.")
    return "encoder." + plain.replace("bond_encoder.tables.", "bond_encoder.bond_embedding_list.")
