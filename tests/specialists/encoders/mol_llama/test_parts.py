"""Each part against outputs that the published implementation gave on the same random weights and inputs.

github.com/DongkiKim95/Mol-LLaMA at 8544da0, with Uni-Core at ace6fae; ``miniature`` draws the weights, seeds 0 and 1.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.miniature.mol_llama import Sizes, write_parts
from rdkit import Chem
from torch import Tensor

from esmerge.specialists.encoders.mol_llama.blending import FLAT, SPATIAL
from esmerge.specialists.encoders.mol_llama.conformers import Conformer, unimol_input
from esmerge.specialists.encoders.mol_llama.files import ReleaseFiles
from esmerge.specialists.encoders.mol_llama.gin import summed_messages
from esmerge.specialists.encoders.mol_llama.graph import molecular_graph
from esmerge.specialists.encoders.mol_llama.inputs import Batch, MoleculeInput, batched
from esmerge.specialists.encoders.mol_llama.loading import load_network
from esmerge.specialists.encoders.mol_llama.network import MolLlamaNetwork
from esmerge.specialists.encoders.mol_llama.qformer import ask
from esmerge.specialists.encoders.mol_llama.unimol import PAD, SYMBOLS, UniMol, UniMolShape, gaussian_densities

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text())
PAIR = 2  # molecules that the parts' outputs were recorded for


def golden(name: str) -> Tensor:
    return torch.tensor(GOLDEN[name])


def agrees(output: Tensor, name: str) -> None:
    torch.testing.assert_close(output, golden(name), atol=1e-5, rtol=0)


def read(molecule: dict[str, Any]) -> MoleculeInput:
    graph = molecular_graph(molecule["smiles"], Chem.MolFromSmiles(molecule["smiles"]))
    conformer = Conformer(tuple(molecule["symbols"]), np.array(molecule["positions"]))
    return MoleculeInput(*unimol_input(molecule["smiles"], conformer), graph)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> MolLlamaNetwork:
    folder = write_parts(tmp_path_factory.mktemp("release") / "mol", Sizes())
    return load_network(ReleaseFiles(folder).read(), str(folder))


@pytest.fixture(scope="module")
def pair() -> Batch:
    return batched([read(molecule) for molecule in GOLDEN["molecules"][:PAIR]])


@pytest.mark.parametrize("molecule", GOLDEN["molecules"], ids=lambda molecule: molecule["smiles"])
def test_inputs(molecule: dict[str, Any]) -> None:
    """Stereochemistry, charge, hydrogens and an element that Uni-Mol has no symbol for are among them."""
    inputs = read(molecule)
    assert inputs.types.tolist() == molecule["types"]
    torch.testing.assert_close(inputs.distances, torch.tensor(molecule["distances"]), atol=1e-6, rtol=0)
    assert inputs.graph.atoms.tolist() == molecule["atoms"]
    assert inputs.graph.bonds.tolist() == molecule["bonds"]
    assert inputs.graph.bond_features.tolist() == molecule["bond_features"]


def test_unimol(network: MolLlamaNetwork, pair: Batch) -> None:
    output, mask = network.graph_encoder[SPATIAL](pair.types, pair.distances)
    assert mask.sum(dim=1).tolist() == [6, 4]
    agrees(output * mask.unsqueeze(-1), "unimol")


def test_gin(network: MolLlamaNetwork, pair: Batch) -> None:
    output, mask = network.graph_encoder[FLAT](pair.graphs)
    assert mask.sum(dim=1).tolist() == [5, 4]
    agrees(output, "gin")


def masks(pair: Batch) -> dict[str, Tensor]:
    atoms = torch.tensor([len(graph.atoms) for graph in pair.graphs])
    return {SPATIAL: pair.types != PAD, FLAT: torch.arange(int(atoms.max()) + 1) <= atoms.unsqueeze(1)}


def test_blending(network: MolLlamaNetwork, pair: Batch) -> None:
    nodes = {name: network.ln_graph[name](golden(part)) for name, part in {SPATIAL: "unimol", FLAT: "gin"}.items()}
    output, mask = network.blending_module(nodes, masks(pair))
    assert mask.tolist() == torch.cat([masks(pair)[FLAT], masks(pair)[SPATIAL]], dim=1).tolist()
    agrees(output, "blending")


def test_qformer(network: MolLlamaNetwork, pair: Batch) -> None:
    mask = torch.cat([masks(pair)[FLAT], masks(pair)[SPATIAL]], dim=1)
    agrees(ask(network.Qformer, network.query_tokens, golden("blending"), mask), "qformer")


def test_the_whole_network(network: MolLlamaNetwork, pair: Batch) -> None:
    agrees(network(pair), "tokens")


def test_a_molecule_is_what_it_is_beside_others(network: MolLlamaNetwork, pair: Batch) -> None:
    separate = torch.cat([network(batched([read(molecule)])) for molecule in GOLDEN["molecules"][:PAIR]])
    torch.testing.assert_close(separate, network(pair), atol=1e-5, rtol=0)


def test_what_stands_behind_a_molecule_does_not_matter(network: MolLlamaNetwork, pair: Batch) -> None:
    garbage = pair.distances.clone()
    garbage[1, 4:] = garbage[1, :, 4:] = 7.0
    torch.testing.assert_close(network(replace(pair, distances=garbage)), network(pair), atol=1e-6, rtol=0)


def test_turning_a_molecule_does_not_matter_and_bending_it_does(network: MolLlamaNetwork) -> None:
    molecule = GOLDEN["molecules"][2]
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    bent = [*molecule["positions"][:-1], [4.0, 1.0, 1.0]]
    first, turned, other = (
        network(batched([read({**molecule, "positions": positions})]))
        for positions in (molecule["positions"], np.array(molecule["positions"]) @ turn + 5.0, bent)
    )
    torch.testing.assert_close(turned, first, atol=1e-5, rtol=0)
    assert (other - first).abs().max() > 1e-3


def test_messages_are_summed_where_bonds_lead() -> None:
    nodes, bonds = torch.tensor([[1.0, -4.0], [2.0, 3.0], [0.0, 5.0]]), torch.tensor([[0, 1, 2], [1, 0, 1]])
    features = torch.tensor([[1.0, 1.0], [0.0, 0.0], [-1.0, 2.0]])
    assert summed_messages(nodes, bonds, features).tolist() == [[2.0, 3.0], [2.0, 7.0], [0.0, 0.0]]


def test_kernels_are_normal_densities() -> None:
    """With the π that the weights were trained with, 3.14159."""
    means, deviations = torch.tensor([0.0, 1.5]), torch.tensor([1.0, 0.2])
    exact = torch.distributions.Normal(means, deviations).log_prob(torch.tensor([[0.3], [1.4]])).exp()
    torch.testing.assert_close(
        gaussian_densities(torch.tensor([[0.3], [1.4]]), means, deviations), exact, rtol=1e-6, atol=0
    )


def test_pairs_have_their_type_s_scale() -> None:
    """Only the pair C-N is scaled: only its bias differs, in that direction alone."""
    unimol = UniMol(UniMolShape(layers=1, width=8, inner=8, heads=2, kernels=4))
    carbon, nitrogen = SYMBOLS.index("C"), SYMBOLS.index("N")
    types = torch.tensor([[carbon * len(SYMBOLS) + nitrogen, nitrogen * len(SYMBOLS) + carbon]]).unsqueeze(0)
    distances = torch.full((1, 1, 2), 1.3)
    torch.nn.init.ones_(unimol.gbf.mul.weight)
    torch.nn.init.zeros_(unimol.gbf.bias.weight)
    same = unimol.gbf(distances, types)
    torch.nn.init.constant_(unimol.gbf.mul.weight[carbon * len(SYMBOLS) + nitrogen], 2.0)
    other = unimol.gbf(distances, types)
    assert not torch.equal(same[0, 0, 0], other[0, 0, 0]) and torch.equal(same[0, 0, 1], other[0, 0, 1])
