"""Uni-Mol's transformer over the atoms of a conformer, biased by their distances.

Zhou et al., Uni-Mol: A Universal 3D Molecular Representation Learning Framework, ICLR 2023. Only what its atoms'
representations need: no heads of the pre-training, no coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

ELEMENTS = "C N O S H Cl F Br I Si P B Na K Al Ca Sn As Hg Fe Zn Cr Se Gd Au Li"
SYMBOLS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", *ELEMENTS.split(), "[MASK]")
"""Uni-Mol's dictionary of atoms (``mol.dict.txt``), and the mask that its training adds."""
PAD, START, END, UNKNOWN = range(4)
PI = 3.14159  # what the kernels were trained with


@dataclass(frozen=True)
class UniMolShape:
    """Sizes of a Uni-Mol; the defaults are the published ones.

    Attributes:
        layers: of the transformer.
        width: of an atom's representation.
        inner: units of the feed-forward layers.
        heads: of attention; each has a bias of its own for a pair of atoms.
        kernels: Gaussians that a distance is spread over.
    """

    layers: int = 15
    width: int = 512
    inner: int = 2048
    heads: int = 64
    kernels: int = 128


def pair_types(atoms: Tensor, symbols: int) -> Tensor:
    """The type of each ordered pair of atoms, (b, n, n), from the atoms' types, (b, n)."""
    return atoms.unsqueeze(2) * symbols + atoms.unsqueeze(1)


def gaussian_densities(values: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    """Densities of normal distributions at values: (..., 1), (kernels,), (kernels,) -> (..., kernels)."""
    heights: Tensor = (2 * PI) ** 0.5 * deviations
    return torch.exp(-0.5 * ((values - means) / deviations).square()) / heights


class GaussianKernels(nn.Module):
    """A distance, scaled and shifted by the pair's type, under ``kernels`` Gaussians."""

    def __init__(self, kernels: int, types: int) -> None:
        super().__init__()
        self.means, self.stds = nn.Embedding(1, kernels), nn.Embedding(1, kernels)
        self.mul, self.bias = nn.Embedding(types, 1), nn.Embedding(types, 1)

    def forward(self, distances: Tensor, types: Tensor) -> Tensor:
        """Distances in Å and types of pairs, (b, n, n) each -> (b, n, n, kernels)."""
        affine = self.mul(types) * distances.unsqueeze(-1) + self.bias(types)
        return gaussian_densities(affine, self.means.weight[0], self.stds.weight[0].abs() + 1e-5)


class PairHead(nn.Module):
    """Two layers from kernels to one bias for each head."""

    def __init__(self, kernels: int, heads: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(kernels, kernels), nn.Linear(kernels, heads)

    def forward(self, densities: Tensor) -> Tensor:
        """(b, n, n, kernels) -> (b, heads, n, n)."""
        biases: Tensor = self.linear2(functional.gelu(self.linear1(densities)))
        return biases.permute(0, 3, 1, 2)


class PairAttention(nn.Module):
    """Attention whose logits are added to the pairs' bias, and are the bias of the layer that follows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """(b, n, width), (b, heads, n, n) -> the update, (b, n, width), and the logits, (b, heads, n, n)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.in_proj(hidden).chunk(3, dim=-1)
        )
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + bias
        mixed = logits.softmax(dim=-1) @ value
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), logits


class UniMolLayer(nn.Module):
    """Attention and two feed-forward layers, each normalised before."""

    def __init__(self, shape: UniMolShape) -> None:
        super().__init__()
        self.self_attn = PairAttention(shape.width, shape.heads)
        self.self_attn_layer_norm = nn.LayerNorm(shape.width)
        self.fc1, self.fc2 = nn.Linear(shape.width, shape.inner), nn.Linear(shape.inner, shape.width)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def forward(self, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """(b, n, width), (b, heads, n, n) -> the same shapes; the second is the bias of the next layer."""
        update, logits = self.self_attn(self.self_attn_layer_norm(hidden), bias)
        hidden = hidden + update
        inner = functional.gelu(self.fc1(self.final_layer_norm(hidden)))
        return hidden + self.fc2(inner), logits


class UniMolTransformer(nn.Module):
    """The layers, between two normalisations."""

    def __init__(self, shape: UniMolShape) -> None:
        super().__init__()
        self.emb_layer_norm, self.final_layer_norm = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.layers = nn.ModuleList(UniMolLayer(shape) for _ in range(shape.layers))

    def forward(self, embedded: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        """(b, n, width), (b, heads, n, n), (b, n) true at atoms -> (b, n, width)."""
        hidden = self.emb_layer_norm(embedded) * mask.unsqueeze(-1)
        bias = bias.masked_fill(~mask[:, None, None, :], -torch.inf)
        for layer in self.layers:
            hidden, bias = layer(hidden, bias)
        normalised: Tensor = self.final_layer_norm(hidden)
        return normalised


class UniMol(nn.Module):
    """Atoms and their distances to representations of the atoms.

    Args:
        shape: sizes.
        symbols: size of the dictionary.
    """

    def __init__(self, shape: UniMolShape, symbols: int = len(SYMBOLS)) -> None:
        super().__init__()
        self.symbols = symbols
        self.embed_tokens = nn.Embedding(symbols, shape.width, PAD)
        self.encoder = UniMolTransformer(shape)
        self.gbf = GaussianKernels(shape.kernels, symbols**2)
        self.gbf_proj = PairHead(shape.kernels, shape.heads)

    def forward(self, atoms: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Types of atoms and their distances to their representations.

        Args:
            atoms: (b, n) int64, index in ``SYMBOLS``; ``START`` and ``END`` stand around a molecule's atoms, ``PAD``
                behind them.
            distances: (b, n, n) in Å.

        Returns:
            (b, n, width), and (b, n), true where an atom, ``START`` or ``END`` stands.
        """
        mask = atoms != PAD
        bias = self.gbf_proj(self.gbf(distances, pair_types(atoms, self.symbols)))
        return self.encoder(self.embed_tokens(atoms), bias, mask), mask
