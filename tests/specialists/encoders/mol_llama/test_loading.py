"""A release's weights: every tensor is placed, only training needs it, or it is listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarks.miniature import mol_llama as miniature
from benchmarks.miniature.mol_llama import RELEASED, Sizes, weights, write_networks, write_parts
from safetensors.torch import load_file
from torch import Tensor

from esmerge.core.errors import AdapterError
from esmerge.specialists.encoders.mol_llama.files import ReleaseFiles
from esmerge.specialists.encoders.mol_llama.inputs import batched, molecule_input
from esmerge.specialists.encoders.mol_llama.loading import load_network
from esmerge.specialists.encoders.mol_llama.network import MolLlamaNetwork, NetworkShape, release_name
from esmerge.specialists.encoders.mol_llama.sizes import network_shape

Tensors = dict[str, Tensor]
BATCH = batched([molecule_input("CCO", 0, 10)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("release") / "mol", Sizes())


@pytest.fixture
def tensors(folder: Path) -> Tensors:
    return ReleaseFiles(folder).read()


def test_every_tensor_is_placed(folder: Path, tensors: Tensors) -> None:
    """But the one layer that MoleculeSTM keeps for another task."""
    network = load_network(tensors, "the release")
    placed = {release_name(name): tensor for name, tensor in network.state_dict().items()}
    assert tensors.keys() - placed.keys() == {
        f"encoder.graph_encoder.moleculestm.graph_pred_linear.{kind}" for kind in ("weight", "bias")
    }
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in placed.items())
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_published_names_and_sizes() -> None:
    """Names and shapes of the release, against those of the network's default sizes."""
    with torch.device("meta"):
        state = MolLlamaNetwork(NetworkShape()).state_dict()
    shapes = miniature.prefixed("encoder.", miniature.encoder(RELEASED)) | miniature.projector(RELEASED)
    network_shapes = {release_name(name): tuple(tensor.shape) for name, tensor in state.items()}
    assert network_shapes == {name: shape for name, shape in shapes.items() if "graph_pred_linear" not in name}
    stored = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert network_shape(stored, 8, 12) == NetworkShape()


def test_networks_from_their_own_files(tmp_path: Path) -> None:
    """Uni-Mol's holds heads of its training besides; a folder without both networks says which files to give."""
    folder = write_parts(tmp_path / "mol", Sizes(), whole=False)
    unimol, moleculestm = write_networks(tmp_path, Sizes())
    network = load_network(ReleaseFiles(folder, unimol, moleculestm).read(), "the release")
    stored = weights(miniature.unimol(Sizes()), 0)
    assert torch.equal(network.graph_encoder["unimol"].gbf.mul.weight, stored["gbf.mul.weight"])
    with pytest.raises(AdapterError, match=r"holds no weights encoder.graph_encoder.unimol.\* and .*moleculestm.\*"):
        load_network(ReleaseFiles(folder).read(), "the release")
    with pytest.raises(AdapterError, match=r"give their own files, encoder.moleculestm=FILE .*molecule_model.pth"):
        load_network(ReleaseFiles(folder, unimol).read(), "the release")


def test_a_network_that_is_there_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    unimol, _ = write_networks(tmp_path, Sizes())
    with pytest.raises(AdapterError, match=r"holds \d+ tensors that .* holds too, encoder.graph_encoder.unimol.emb"):
        ReleaseFiles(folder, unimol).read()


def test_what_only_training_needs_changes_nothing(tensors: Tensors) -> None:
    more = {f"encoder.{name}": tensor for name, tensor in weights(miniature.text_side(Sizes()), 5).items()}
    first, second = load_network(tensors, "the release"), load_network(tensors | more, "the first stage")
    assert torch.equal(first(BATCH), second(BATCH))


def renamed(tensors: Tensors) -> Tensors:
    return tensors | {"encoder.blending_module.mlp.protein.0.weight": torch.zeros(2)}


def without(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if ".ln_q." not in name}


def reshaped(tensors: Tensors) -> Tensors:
    return tensors | {"encoder.ln_graph.unimol.bias": torch.zeros(3)}


def broken(tensors: Tensors) -> Tensors:
    return tensors | {"llm_proj.bias": torch.full((16,), torch.nan)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"encoder\.blending_module\.mlp\.protein\.0\.weight has no place"),
        (without, r"16 tensors do not make(.|\n)*cross_attn_blocks\.1\.self_attn_block_3D\.ln_q\.weight is missing"),
        (reshaped, r"encoder\.ln_graph\.unimol\.bias is \(3,\), expected \(16,\)"),
        (broken, r"llm_proj\.bias holds NaN or infinite values"),
        (lambda tensors: {n: t for n, t in tensors.items() if n != "llm_proj.weight"}, "llm_proj.weight is missing"),
    ],
)
def test_faults_are_listed(tensors: Tensors, change: Callable[[Tensors], Tensors], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        load_network(change(tensors), "the release")


def test_heads_must_divide_the_width(tensors: Tensors) -> None:
    with pytest.raises(AdapterError, match="blending_heads=5: the weights have a width of 16"):
        load_network(tensors, "the release", blending_heads=5)
    with pytest.raises(AdapterError, match="qformer_heads=0: the weights have a width of 24"):
        load_network(tensors, "the release", qformer_heads=0)


def test_half_precision_is_read_as_single(tensors: Tensors) -> None:
    halves = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    network = load_network(halves, "the release")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    torch.testing.assert_close(network(BATCH), load_network(tensors, "the release")(BATCH), atol=0.5, rtol=0)


def test_files_that_cannot_be_read_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name in ("encoder", "projector"):
        (tmp_path / "parts" / f"{name}.safetensors").write_bytes(b"no weights")
    with pytest.raises(AdapterError, match=r"encoder.safetensors"):
        ReleaseFiles(tmp_path).read()
    with pytest.raises(AdapterError, match=r"lacks encoder.safetensors, projector.safetensors"):
        ReleaseFiles(tmp_path / "nowhere").read()
    with pytest.raises(AdapterError, match=r"absent.pt does not exist"):
        ReleaseFiles(folder, tmp_path / "absent.pt").read()


def test_the_writer_writes_what_it_says(folder: Path) -> None:
    assert load_file(folder / "parts" / "encoder.safetensors").keys() == miniature.encoder(Sizes()).keys()
