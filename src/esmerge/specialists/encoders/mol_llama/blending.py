"""Mol-LLaMA's blending module: atoms of the graph and atoms of the conformer look at themselves and at one another."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

FLAT, SPATIAL = "moleculestm", "unimol"  # the two encoders, by the release's names


class AttentionBlock(nn.Module):
    """Attention and two feed-forward layers, with residuals; query, key and value are normalised apart."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.ln_q, self.ln_k, self.ln_v, self.ln = (nn.LayerNorm(width) for _ in range(4))

    def forward(self, query: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """(b, q, width), (b, k, width), (b, k) true where context stands -> (b, q, width)."""
        normalised = self.ln_q(query), self.ln_k(context), self.ln_v(context)
        attended = query + self.attn(*normalised, need_weights=False, key_padding_mask=~mask)[0]
        updated: Tensor = attended + self.mlp(self.ln(attended))
        return updated


class BlendingLayer(nn.Module):
    """Each side attends to itself; then the graph to the conformer, and the conformer to what became of the graph."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn_block_2D = AttentionBlock(width, heads)
        self.self_attn_block_3D = AttentionBlock(width, heads)
        self.cross_attn_block_2Dto3D = AttentionBlock(width, heads)
        self.cross_attn_block_3Dto2D = AttentionBlock(width, heads)

    def forward(self, flat: Tensor, spatial: Tensor, flat_mask: Tensor, spatial_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(b, n, width), (b, m, width) and where they stand, (b, n), (b, m) -> (b, n, width), (b, m, width)."""
        on_flat, on_spatial = flat_mask.unsqueeze(-1), spatial_mask.unsqueeze(-1)
        flat = self.self_attn_block_2D(flat, flat, flat_mask) * on_flat
        spatial = self.self_attn_block_3D(spatial, spatial, spatial_mask) * on_spatial
        flat = self.cross_attn_block_3Dto2D(flat, spatial, spatial_mask) * on_flat
        spatial = self.cross_attn_block_2Dto3D(spatial, flat, flat_mask) * on_spatial
        return flat, spatial


class BlendingModule(nn.Module):
    """Both encoders' atoms, brought to one width, through ``layers`` layers.

    Args:
        widths: of each encoder's representations.
        width: that both are brought to; the larger of them in the release.
        layers: number of layers.
        heads: of attention.
    """

    def __init__(self, widths: Mapping[str, int], width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict({name: nn.Sequential(nn.Linear(widths[name], width)) for name in (FLAT, SPATIAL)})
        self.cross_attn_blocks = nn.ModuleList(BlendingLayer(width, heads) for _ in range(layers))

    def forward(self, nodes: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Representations by encoder, (b, n, its width), and where they stand, (b, n).

        Returns:
            (b, n + m, width), the graph's before the conformer's, and (b, n + m), true where something stands.
        """
        flat, spatial = (self.mlp[name](nodes[name]) * masks[name].unsqueeze(-1) for name in (FLAT, SPATIAL))
        for layer in self.cross_attn_blocks:
            flat, spatial = layer(flat, spatial, masks[FLAT], masks[SPATIAL])
        return torch.cat([flat, spatial], dim=1), torch.cat([masks[FLAT], masks[SPATIAL]], dim=1)
