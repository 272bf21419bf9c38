"""The sizes of a network, read off the shapes of its weights by the release's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from esmerge.core.errors import AdapterError
from esmerge.specialists.encoders.mol_llama.files import MOLECULESTM, UNIMOL
from esmerge.specialists.encoders.mol_llama.gin import GinShape
from esmerge.specialists.encoders.mol_llama.network import NetworkShape
from esmerge.specialists.encoders.mol_llama.qformer import QFormerShape
from esmerge.specialists.encoders.mol_llama.unimol import UniMolShape

QFORMER_LAYER = "encoder.Qformer.bert.encoder.layer"


class Shapes:
    """The shapes of tensors by name.

    Args:
        tensors: name in the release -> tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def size(self, name: str, axis: int) -> int:
        """The length of an axis; raises ``AdapterError`` where there is no such tensor or axis."""
        shape = self._shapes.get(name)
        if shape is None or axis >= len(shape):
            state = "is missing" if shape is None else f"is {shape}, expected at least {axis + 1} axes"
            raise AdapterError(
                f"{name} {state}: without it the sizes of Mol-LLaMA's encoder are unknown; copy the release again, or "
                "unpack it again with esmerge unpack release=mol_llama"
            )
        return shape[axis]

    def numbers(self, prefix: str, rest: str) -> list[int]:
        """The numbers N of all tensors ``<prefix>.N.<rest>…``, in order."""
        pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.{re.escape(rest)}")
        matches = map(pattern.match, self._shapes)
        return sorted({int(match[1]) for match in matches if match})


def network_shape(tensors: Mapping[str, Tensor], blending_heads: int, qformer_heads: int) -> NetworkShape:
    """Sizes of a network.

    Args:
        tensors: name in the release -> tensor.
        blending_heads: heads of attention, which no shape tells.
        qformer_heads: likewise.

    Raises:
        AdapterError: a tensor that tells a size is missing, or a width cannot be divided among the heads.
    """
    shapes = Shapes(tensors)
    qformer = _qformer(shapes, qformer_heads)
    _check_heads("blending_heads", blending_heads, qformer.context)
    _check_heads("qformer_heads", qformer_heads, qformer.width)
    return NetworkShape(
        unimol=_unimol(shapes, UNIMOL),
        gin=_gin(shapes, f"{MOLECULESTM}molecule_node_model"),
        blending_layers=len(shapes.numbers("encoder.blending_module.cross_attn_blocks", "")),
        blending_heads=blending_heads,
        qformer=qformer,
        hidden=shapes.size("llm_proj.weight", 0),
    )


def _unimol(shapes: Shapes, prefix: str) -> UniMolShape:
    return UniMolShape(
        layers=len(shapes.numbers(f"{prefix}encoder.layers", "")),
        width=shapes.size(f"{prefix}embed_tokens.weight", 1),
        inner=shapes.size(f"{prefix}encoder.layers.0.fc1.weight", 0),
        heads=shapes.size(f"{prefix}gbf_proj.linear2.weight", 0),
        kernels=shapes.size(f"{prefix}gbf.means.weight", 1),
    )


def _gin(shapes: Shapes, prefix: str) -> GinShape:
    return GinShape(
        layers=len(shapes.numbers(f"{prefix}.gnns", "")),
        width=shapes.size(f"{prefix}.atom_encoder.atom_embedding_list.0.weight", 1),
    )


def _qformer(shapes: Shapes, heads: int) -> QFormerShape:
    layers = shapes.numbers(QFORMER_LAYER, "")
    crossing = shapes.numbers(QFORMER_LAYER, "crossattention.")
    return QFormerShape(
        layers=len(layers),
        width=shapes.size("encoder.query_tokens", 2),
        inner=shapes.size(f"{QFORMER_LAYER}.0.intermediate_query.dense.weight", 0),
        heads=heads,
        queries=shapes.size("encoder.query_tokens", 1),
        context=shapes.size(f"{QFORMER_LAYER}.0.crossattention.self.key.weight", 1),
        every=crossing[1] - crossing[0] if len(crossing) > 1 else max(1, len(layers)),
    )


def _check_heads(setting: str, heads: int, width: int) -> None:
    if heads < 1 or width % heads:
        raise AdapterError(f"{setting}={heads}: the weights have a width of {width}, expected a number that divides it")
