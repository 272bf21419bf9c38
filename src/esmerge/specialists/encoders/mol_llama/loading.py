"""The network with a release's weights: every tensor is placed, is of a part that only training needs, or is listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from esmerge.core.errors import AdapterError
from esmerge.core.finite import all_finite
from esmerge.specialists.encoders.mol_llama.files import MOLECULESTM, UNIMOL
from esmerge.specialists.encoders.mol_llama.network import MolLlamaNetwork, release_name
from esmerge.specialists.encoders.mol_llama.sizes import network_shape

TRAINING_ONLY = re.compile(
    r"encoder\.Qformer\.cls\..*"  # words out
    r"|encoder\.Qformer\.bert\.embeddings\.(word_embeddings|position_embeddings|position_ids)\b.*"  # words in
    r"|encoder\.Qformer\.bert\.encoder\.layer\.\d+\.(intermediate|output)\..*"  # of words, not of queries
    r"|encoder\.(graph_proj|text_proj|gtm_head)\..*"  # heads of the first stage of training
    rf"|{re.escape(MOLECULESTM)}graph_pred_linear\..*"
    rf"|{re.escape(UNIMOL)}(lm_head|pair2coord_proj|dist_head|classification_heads|encoder\.final_head_layer_norm)\..*"
)
NETWORKS = {
    UNIMOL: "encoder.unimol=FILE (mol_pre_no_h_220816.pt of dptech/Uni-Mol-Models)",
    MOLECULESTM: "encoder.moleculestm=FILE (demo/demo_checkpoints_Graph/molecule_model.pth of chao1224/MoleculeSTM)",
}


def load_network(
    tensors: Mapping[str, Tensor], title: str, blending_heads: int = 8, qformer_heads: int = 12
) -> MolLlamaNetwork:
    """The network of the sizes that the weights have, frozen, in float32.

    Args:
        tensors: name in the release -> tensor.
        title: where they come from, for messages.
        blending_heads: heads of the blending module, which no tensor's shape tells.
        qformer_heads: likewise, of the Q-Former.

    Raises:
        AdapterError: a tensor is missing, has no place, another shape, or values that are not finite; all are listed.
    """
    needed = {name: tensor for name, tensor in tensors.items() if not TRAINING_ONLY.fullmatch(name)}
    _check_networks(needed, title)
    shape = network_shape(needed, blending_heads, qformer_heads)
    with torch.device("meta"):  # sizes alone: the weights replace what is there
        network = MolLlamaNetwork(shape)
    state = network.state_dict()
    faults = list(_faults(needed, {release_name(name): tensor for name, tensor in state.items()}))
    if faults:
        listing = "\n  ".join(faults)
        raise AdapterError(
            f"{title}: {len(faults)} tensors do not make a Mol-LLaMA encoder:\n  {listing}\nCopy the release again, or "
            "unpack it again with esmerge unpack release=mol_llama"
        )
    network.load_state_dict({name: _single(needed[release_name(name)]) for name in state}, assign=True)
    return network.eval().requires_grad_(False)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _check_networks(tensors: Mapping[str, Tensor], title: str) -> None:
    """Say which file to give where a whole network is lacking."""
    missing = [prefix for prefix in NETWORKS if not any(name.startswith(prefix) for name in tensors)]
    if missing:
        raise AdapterError(
            f"{title} holds no weights {' and '.join(f'{prefix}*' for prefix in missing)}: the release's trainer "
            f"stores only what it trained; give their own files, {' and '.join(NETWORKS[p] for p in missing)}"
        )


def _faults(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    yield from (f"{name} is missing" for name in sorted(expected.keys() - tensors.keys()))
    yield from (f"{name} has no place" for name in sorted(tensors.keys() - expected.keys()))
    for name in sorted(tensors.keys() & expected.keys()):
        size, right = tuple(tensors[name].shape), tuple(expected[name].shape)
        if size != right:
            yield f"{name} is {size}, expected {right}"
        elif tensors[name].is_floating_point() and not all_finite(tensors[name]):
            yield f"{name} holds NaN or infinite values"
