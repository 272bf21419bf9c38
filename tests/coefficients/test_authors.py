"""Coefficients in the authors' files and back, exactly, and as their merge would use them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.coefficients.signals import make_signals, tensor_shapes

from esmerge.coefficients.authors import ELEMENT_FILE, LAYER_FILE, authors_name, read_authors, write_authors
from esmerge.coefficients.estimation import coefficients
from esmerge.coefficients.types import Coefficients, ESConfig
from esmerge.core.errors import InputError

LAYERS = 12
SHAPES = tensor_shapes(LAYERS)
ROLES = {"mol": "expert0", "prot": "expert2", "cell": "expert1"}
KEY = "layers.3.mlp.up_proj.lora_a.weight"


def computed(granularity: str, experts: int = 3) -> Coefficients:
    signals = make_signals(experts, 2, LAYERS)
    return coefficients(signals, ESConfig(granularity, projections=8, resamples=0), SHAPES, 0)


def read(folder: Path, granularity: str, roles: dict[str, str] = ROLES) -> Coefficients:
    element = folder / ELEMENT_FILE
    return read_authors(folder / LAYER_FILE, element if element.exists() else None, roles, SHAPES, granularity)


@pytest.mark.parametrize("granularity", ["layer", "element", "joint"])
@pytest.mark.parametrize("experts", [2, 3])
def test_the_way_there_and_back_is_exact(granularity: str, experts: int, tmp_path: Path) -> None:
    before = computed(granularity, experts)
    roles = ROLES if experts == 3 else {"prot": "expert0", "cell": "expert1"}
    write_authors(before, roles, tmp_path)
    after = read(tmp_path, granularity, roles)
    assert after.elements.keys() == before.elements.keys()
    for expert in before.layer:
        assert torch.equal(after.layer[expert], before.layer[expert])
        for name, weights in before.elements.get(expert, {}).items():
            assert torch.equal(after.elements[expert][name], weights)


def test_their_merge_makes_the_joint_coefficients_of_both_files(tmp_path: Path) -> None:
    joint = computed("joint")
    write_authors(joint, ROLES, tmp_path)
    table = pd.read_csv(tmp_path / LAYER_FILE)
    payload = torch.load(tmp_path / ELEMENT_FILE, weights_only=True)
    for name in SHAPES:
        row = table[table["layer"] == f"layer_{name.split('.')[4]}"].iloc[0]
        products = {role: payload[f"coef_{role}"][authors_name(name)] * row[f"coef_{role}"] for role in ROLES}
        total = sum(products.values()) + 1e-12
        for role, expert in ROLES.items():
            torch.testing.assert_close(products[role] / total, joint.elements[expert][name], rtol=1e-5, atol=1e-6)


def test_files_as_they_write_them(tmp_path: Path) -> None:
    alpha = torch.softmax(torch.randn(3, LAYERS, generator=torch.Generator().manual_seed(1)), dim=0)
    table = pd.DataFrame({"layer": [f"layer_{i}" for i in range(LAYERS)], "g_mol": 0.5, "temperature": 0.5})
    for role, values in zip(("mol", "prot", "cell"), alpha, strict=True):
        table[f"coef_{role}"] = values.numpy()
    table.to_csv(tmp_path / LAYER_FILE, index=False, float_format="%.8f")
    beta = {name: torch.softmax(torch.randn(3, *shape), dim=0) for name, shape in SHAPES.items()}
    payload = {
        f"coef_{r}": {authors_name(n): b[i] for n, b in beta.items()} for i, r in enumerate(("mol", "prot", "cell"))
    }
    torch.save({"meta": {"tau": 0.1}, "norm2actual_mol": {"a": "b"}, **payload}, tmp_path / ELEMENT_FILE)
    joint = read(tmp_path, "joint", {"mol": "a", "prot": "b", "cell": "c"})
    for name, weights in beta.items():
        layer = int(name.split(".")[4])
        products = weights * alpha[:, layer].reshape(3, 1, 1)
        for index, expert in enumerate("abc"):
            torch.testing.assert_close(
                joint.elements[expert][name], products[index] / products.sum(0), rtol=1e-4, atol=1e-6
            )


def test_a_role_without_an_expert_weighs_nothing(tmp_path: Path) -> None:
    write_authors(computed("joint", 2), {"mol": "expert0", "cell": "expert1"}, tmp_path)
    assert set(pd.read_csv(tmp_path / LAYER_FILE)["coef_prot"]) == {0.0}
    payload = torch.load(tmp_path / ELEMENT_FILE, weights_only=True)
    assert not any(weights.any() for weights in payload["coef_prot"].values())


@pytest.mark.parametrize(
    "roles", [{"mol": "expert0"}, {"mol": "expert0", "prot": "expert0", "cell": "expert1"}, {"a": "expert0"}]
)
def test_roles_that_are_not_theirs(roles: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected some of mol, prot, cell"):
        write_authors(computed("layer"), roles, tmp_path)


def test_more_layers_than_they_read(tmp_path: Path) -> None:
    deep = Coefficients({expert: torch.full((33,), 1 / 3) for expert in ROLES.values()}, {})
    with pytest.raises(InputError, match="33 layers: the authors' code reads 32"):
        write_authors(deep, ROLES, tmp_path)


def test_dense_updates_have_no_name_there(tmp_path: Path) -> None:
    dense = {"base_model.model.model.layers.0.mlp.up_proj.delta": torch.full((2, 2), 1 / 3)}
    with pytest.raises(InputError, match="is no LoRA factor"):
        write_authors(replace(computed("layer"), elements={e: dense for e in ROLES.values()}), ROLES, tmp_path)


def test_faults_of_an_element_file_are_listed(tmp_path: Path) -> None:
    write_authors(computed("element"), ROLES, tmp_path)
    payload = torch.load(tmp_path / ELEMENT_FILE, weights_only=True)
    del payload["coef_prot"][KEY]
    payload["coef_mol"]["layers.40.mlp.up_proj.lora_a.weight"] = torch.ones(2)
    payload["coef_cell"][KEY] = torch.ones(5, 5)
    torch.save(payload, tmp_path / ELEMENT_FILE)
    with pytest.raises(InputError, match="coef_mol holds layers.40") as error:
        read(tmp_path, "element")
    assert f"coef_prot has {KEY} of shape None" in str(error.value)
    assert f"coef_cell has {KEY} of shape (5, 5), expected (2, 5)" in str(error.value)


def test_weights_that_sum_to_another_number(tmp_path: Path) -> None:
    write_authors(computed("layer"), ROLES, tmp_path)
    table = pd.read_csv(tmp_path / LAYER_FILE)
    table.loc[2, "coef_mol"] += 0.1
    table.to_csv(tmp_path / LAYER_FILE, index=False)
    with pytest.raises(InputError, match="sum to 1"):
        read(tmp_path, "layer")
    table[table["layer"] != "layer_5"].to_csv(tmp_path / LAYER_FILE, index=False)
    with pytest.raises(InputError, match="expected layer_0 to layer_11"):
        read(tmp_path, "layer")


def test_pickled_objects_are_never_built(tmp_path: Path) -> None:
    write_authors(computed("element"), ROLES, tmp_path)
    torch.save({"coef_mol": ESConfig("layer")}, tmp_path / ELEMENT_FILE)
    with pytest.raises(InputError, match="cannot be read as tensors alone"):
        read(tmp_path, "element")


def test_a_file_that_a_granularity_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"granularity=joint needs the authors' layer file: give coefficients\.layer"):
        read_authors(None, tmp_path / ELEMENT_FILE, ROLES, SHAPES, "joint")
