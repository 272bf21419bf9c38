"""Random releases of Mol-LLaMA's encoder: its tensors' names and shapes, written out, at any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
ATOM_CATEGORIES, BOND_CATEGORIES = (119, 4, 12, 12, 10, 6, 6, 2, 2), (5, 6, 2)
SYMBOLS, KERNELS, QUERIES = 31, 128, 8  # which the release never changes


@dataclass(frozen=True)
class Sizes:
    """What differs between a miniature and the release."""

    unimol_layers: int = 2
    unimol_width: int = 16
    unimol_inner: int = 24
    unimol_heads: int = 4
    gin_layers: int = 2
    gin_width: int = 12
    blending_layers: int = 2
    qformer_layers: int = 3
    qformer_width: int = 24
    qformer_inner: int = 20
    hidden: int = 16


RELEASED = Sizes(15, 512, 2048, 64, 5, 300, 4, 12, 768, 3072, 4096)


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name: str, width: int) -> Shapes:
    running = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return norm(name, width) | running


def unimol(sizes: Sizes) -> Shapes:
    width, shapes = sizes.unimol_width, {"embed_tokens.weight": (SYMBOLS, sizes.unimol_width)}
    shapes |= norm("encoder.emb_layer_norm", width) | norm("encoder.final_layer_norm", width)
    for layer in (f"encoder.layers.{number}" for number in range(sizes.unimol_layers)):
        shapes |= linear(f"{layer}.self_attn.in_proj", 3 * width, width)
        shapes |= linear(f"{layer}.self_attn.out_proj", width, width)
        shapes |= linear(f"{layer}.fc1", sizes.unimol_inner, width) | linear(f"{layer}.fc2", width, sizes.unimol_inner)
        shapes |= norm(f"{layer}.self_attn_layer_norm", width) | norm(f"{layer}.final_layer_norm", width)
    shapes |= linear("gbf_proj.linear1", KERNELS, KERNELS) | linear("gbf_proj.linear2", sizes.unimol_heads, KERNELS)
    shapes |= {"gbf.means.weight": (1, KERNELS), "gbf.stds.weight": (1, KERNELS)}
    return shapes | {"gbf.mul.weight": (SYMBOLS**2, 1), "gbf.bias.weight": (SYMBOLS**2, 1)}


def unimol_training(sizes: Sizes) -> Shapes:
    """What Uni-Mol's own file holds besides."""
    heads = sizes.unimol_heads
    return norm("encoder.final_head_layer_norm", heads) | {
        **{"lm_head.bias": (SYMBOLS,), "lm_head.weight": (SYMBOLS, sizes.unimol_width)},
        **linear("lm_head.dense", sizes.unimol_width, sizes.unimol_width),
        **linear("pair2coord_proj.linear1", heads, heads),
        **linear("dist_head.dense", heads, heads),
    }


def moleculestm(sizes: Sizes) -> Shapes:
    width, start = sizes.gin_width, "molecule_node_model"
    shapes: Shapes = {
        f"{start}.atom_encoder.atom_embedding_list.{number}.weight": (size, width)
        for number, size in enumerate(ATOM_CATEGORIES)
    }
    for number in range(sizes.gin_layers):
        layer = f"{start}.gnns.{number}"
        shapes |= {f"{layer}.eps": (1,)} | {
            f"{layer}.bond_encoder.bond_embedding_list.{index}.weight": (size, width)
            for index, size in enumerate(BOND_CATEGORIES)
        }
        shapes |= linear(f"{layer}.mlp.0", 2 * width, width) | batch_norm(f"{layer}.mlp.1", 2 * width)
        shapes |= linear(f"{layer}.mlp.3", width, 2 * width) | batch_norm(f"{start}.batch_norms.{number}", width)
    return shapes | linear("graph_pred_linear", 1, width)


def blending(sizes: Sizes) -> Shapes:
    width = max(sizes.unimol_width, sizes.gin_width)
    shapes = linear("mlp.unimol.0", width, sizes.unimol_width) | linear("mlp.moleculestm.0", width, sizes.gin_width)
    names = ("self_attn_block_2D", "self_attn_block_3D", "cross_attn_block_2Dto3D", "cross_attn_block_3Dto2D")
    for number in range(sizes.blending_layers):
        for block in (f"cross_attn_blocks.{number}.{name}" for name in names):
            shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
            shapes |= linear(f"{block}.attn.out_proj", width, width)
            shapes |= linear(f"{block}.mlp.0", 4 * width, width) | linear(f"{block}.mlp.2", width, 4 * width)
            for kind in ("ln_q", "ln_k", "ln_v", "ln"):
                shapes |= norm(f"{block}.{kind}", width)
    return shapes


def qformer(sizes: Sizes) -> Shapes:
    width, context = sizes.qformer_width, max(sizes.unimol_width, sizes.gin_width)
    shapes = norm("bert.embeddings.LayerNorm", width)
    for number in range(sizes.qformer_layers):
        layer = f"bert.encoder.layer.{number}"
        blocks = {"attention": width} | ({"crossattention": context} if number % 2 == 0 else {})
        for block, inputs in blocks.items():
            shapes |= linear(f"{layer}.{block}.self.query", width, width)
            shapes |= linear(f"{layer}.{block}.self.key", width, inputs)
            shapes |= linear(f"{layer}.{block}.self.value", width, inputs)
            shapes |= linear(f"{layer}.{block}.output.dense", width, width)
            shapes |= norm(f"{layer}.{block}.output.LayerNorm", width)
        shapes |= feed_forward(f"{layer}.intermediate_query", f"{layer}.output_query", width, sizes.qformer_inner)
    return shapes


def feed_forward(inner: str, outer: str, width: int, inner_width: int) -> Shapes:
    shapes = linear(f"{inner}.dense", inner_width, width) | linear(f"{outer}.dense", width, inner_width)
    return shapes | norm(f"{outer}.LayerNorm", width)


def text_side(sizes: Sizes) -> Shapes:
    """What the first stage of training holds besides: BERT's reading of text, and heads."""
    width = sizes.qformer_width
    shapes: Shapes = {
        "Qformer.bert.embeddings.position_ids": (1, 32),
        "Qformer.bert.embeddings.word_embeddings.weight": (40, width),
        "Qformer.bert.embeddings.position_embeddings.weight": (32, width),
        "Qformer.cls.predictions.bias": (40,),
        **linear("Qformer.cls.predictions.transform.dense", width, width),
        **linear("graph_proj", 6, width),
        **linear("text_proj", 6, width),
        **linear("gtm_head", 2, width),
    }
    for layer in (f"Qformer.bert.encoder.layer.{number}" for number in range(sizes.qformer_layers)):
        shapes |= feed_forward(f"{layer}.intermediate", f"{layer}.output", width, sizes.qformer_inner)
    return shapes


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def trained(sizes: Sizes) -> Shapes:
    """The encoder without its two pre-trained networks, as the release's trainer stores it."""
    shapes = prefixed("blending_module.", blending(sizes)) | prefixed("Qformer.", qformer(sizes))
    shapes |= norm("ln_graph.unimol", sizes.unimol_width) | norm("ln_graph.moleculestm", sizes.gin_width)
    return shapes | {"query_tokens": (1, QUERIES, sizes.qformer_width)}


def encoder(sizes: Sizes) -> Shapes:
    """The whole encoder, as the published folder stores it."""
    networks = prefixed("graph_encoder.unimol.", unimol(sizes))
    networks |= prefixed("graph_encoder.moleculestm.", moleculestm(sizes))
    return networks | trained(sizes)


def projector(sizes: Sizes) -> Shapes:
    return linear("llm_proj", sizes.hidden, sizes.qformer_width)


def weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Random values for names and shapes, each of a size that its layer passes on."""
    draw = np.random.default_rng(seed)
    return dict(_values(shapes, draw))


def _values(shapes: Mapping[str, tuple[int, ...]], draw: np.random.Generator) -> Iterator[tuple[str, Tensor]]:
    for name, shape in shapes.items():
        numbers = torch.from_numpy(draw.standard_normal(shape, dtype=np.float32)).reshape(shape)
        if name.endswith(("num_batches_tracked", "position_ids")):
            yield name, torch.ones(shape, dtype=torch.int64)
        elif name.endswith("running_var"):
            yield name, numbers.abs() + 2
        elif name.endswith(("gbf.means.weight", "gbf.stds.weight")):
            yield name, numbers.abs() + 0.1
        elif "_embedding_list." in name:
            yield name, 0.3 * numbers
        elif "gbf." in name or "embed" in name.lower() or name == "query_tokens":
            yield name, numbers + 1 if name.endswith("mul.weight") else numbers
        elif len(shape) > 1:
            yield name, numbers / shape[-1] ** 0.5
        else:
            yield name, (1 if name.endswith("weight") else 0) + 0.3 * numbers


def write_parts(folder: Path, sizes: Sizes, seed: int = 0, whole: bool = True) -> Path:
    """What ``esmerge unpack release=mol_llama`` writes of the encoder: two files in ``parts``."""
    (folder / "parts").mkdir(parents=True)
    save_file(weights(encoder(sizes) if whole else trained(sizes), seed), folder / "parts" / "encoder.safetensors")
    linear_layer = {name.removeprefix("llm_proj."): shape for name, shape in projector(sizes).items()}
    save_file(weights(linear_layer, seed + 1), folder / "parts" / "projector.safetensors")
    return folder


def write_networks(folder: Path, sizes: Sizes, seed: int = 0) -> tuple[Path, Path]:
    """The two pre-trained networks as their own projects store them."""
    torch.save(
        {"model": weights(unimol(sizes) | unimol_training(sizes), seed), "epoch": 3}, folder / "mol_pre_no_h_220816.pt"
    )
    torch.save(weights(moleculestm(sizes), seed + 1), folder / "molecule_model.pth")
    return folder / "mol_pre_no_h_220816.pt", folder / "molecule_model.pth"
