"""MoleculeSTM's graph isomorphism network over atoms and bonds.

Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019; weights: Liu et al., Multi-modal molecule structure-text
model, Nature Machine Intelligence 5 (2023) 1447. torch-geometric is not needed: the sum over neighbours is torch's
``index_add``, and a batch is one large graph whose nodes are split again by the molecules' sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from esmerge.specialists.encoders.mol_llama.graph import ATOM_SIZES, BOND_SIZES, MolecularGraph


@dataclass(frozen=True)
class GinShape:
    """Sizes of the network; the defaults are MoleculeSTM's."""

    layers: int = 5
    width: int = 300


def summed_messages(nodes: Tensor, bonds: Tensor, bond_features: Tensor) -> Tensor:
    """For each node the sum of ``relu(neighbour + bond)`` over the bonds that lead to it.

    Args:
        nodes: (n, width).
        bonds: (2, m), from row 0 to row 1.
        bond_features: (m, width).

    Returns:
        (n, width).
    """
    messages = functional.relu(nodes[bonds[0]] + bond_features)
    return torch.zeros_like(nodes).index_add(0, bonds[1], messages)


class CategoryEmbeddings(nn.Module):
    """The sum of one embedding for each categorical feature."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) int64 -> (n, width)."""
        return torch.stack([table(column) for table, column in zip(self.tables, features.T, strict=True)]).sum(dim=0)


class GinLayer(nn.Module):
    """``mlp((1 + eps) · node + Σ relu(neighbour + bond))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.bond_encoder = CategoryEmbeddings(BOND_SIZES, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, nodes: Tensor, bonds: Tensor, bond_features: Tensor) -> Tensor:
        """(n, width), (2, m), (m, features) int64 -> (n, width)."""
        neighbours = summed_messages(nodes, bonds, self.bond_encoder(bond_features))
        updated: Tensor = self.mlp((1 + self.eps) * nodes + neighbours)
        return updated


class Gin(nn.Module):
    """Atoms' and bonds' features to representations of the atoms; the last layer has no ReLU."""

    def __init__(self, shape: GinShape) -> None:
        super().__init__()
        self.atom_encoder = CategoryEmbeddings(ATOM_SIZES, shape.width)
        self.gnns = nn.ModuleList(GinLayer(shape.width) for _ in range(shape.layers))
        self.batch_norms = nn.ModuleList(nn.BatchNorm1d(shape.width) for _ in range(shape.layers))

    def forward(self, atoms: Tensor, bonds: Tensor, bond_features: Tensor) -> Tensor:
        """(n, 9) int64, (2, m) int64, (m, 3) int64 -> (n, width)."""
        nodes: Tensor = self.atom_encoder(atoms)
        for number, (layer, norm) in enumerate(zip(self.gnns, self.batch_norms, strict=True), start=1):
            nodes = norm(layer(nodes, bonds, bond_features))
            nodes = nodes if number == len(self.gnns) else functional.relu(nodes)
        return nodes


class MoleculeStm(nn.Module):
    """Molecules to representations of their atoms, with the mean of these before them."""

    def __init__(self, shape: GinShape) -> None:
        super().__init__()
        self.molecule_node_model = Gin(shape)

    def forward(self, graphs: Sequence[MolecularGraph]) -> tuple[Tensor, Tensor]:
        """b molecules -> (b, 1 + most atoms, width), and (b, 1 + most atoms), true where something stands."""
        device = next(self.parameters()).device
        joint = joined(graphs)
        nodes = self.molecule_node_model(*(part.to(device) for part in (joint.atoms, joint.bonds, joint.bond_features)))
        rows = [
            torch.cat([part.mean(dim=0, keepdim=True), part]) for part in nodes.split([len(g.atoms) for g in graphs])
        ]
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool, device=device) for row in rows], batch_first=True)
        return pad_sequence(rows, batch_first=True), mask


def joined(graphs: Sequence[MolecularGraph]) -> MolecularGraph:
    """Several graphs as the parts of one; nodes are numbered on."""
    starts = [0]
    for graph in graphs:
        starts.append(starts[-1] + len(graph.atoms))
    bonds = [graph.bonds + start for graph, start in zip(graphs, starts, strict=False)]
    return MolecularGraph(
        torch.cat([graph.atoms for graph in graphs]),
        torch.cat(bonds, dim=1),
        torch.cat([graph.bond_features for graph in graphs]),
    )
