"""Merges by the authors' files, against the merge whose coefficients were exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import composed
from tests.standalone.conftest import Asking

from esmerge.core.errors import ConfigError, InputError, StoreError
from esmerge.experiment.standalone.coefficient_files import export_coefficients
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.experiment.standalone.write import carry_out

ROLES = ("roles.mol=mol", "roles.prot=prot")
OF_MERGE = tuple(f"coefficients.{role}" for role in ROLES)


def exported(merged: Path, out: Path, *roles: str) -> list[Path]:
    overrides = (f"coefficients={merged}", f"out={out}", *roles)
    return export_coefficients(composed(*overrides, config="export_coefficients"))


@pytest.mark.parametrize("granularity", ["layer", "element", "joint"])
def test_the_same_merge_comes_of_exported_files(
    granularity: str, plan: Callable[..., MergePlan], tmp_path: Path
) -> None:
    overrides = (f"granularity={granularity}", "granularity.projections=16", "merge_space=factors")
    carry_out(plan(*overrides, f"out={tmp_path / 'probed'}"))
    files = exported(tmp_path / "probed", tmp_path / "authors", *ROLES)
    assert len(files) == (1 if granularity == "layer" else 2)
    named = [f"coefficients.{kind}={path}" for kind, path in zip(("layer", "element"), files, strict=False)]
    carry_out(plan(*overrides, *named, *OF_MERGE, "probe.file=null", f"out={tmp_path / 'read'}"))
    for file in ("adapter_model.safetensors", "coefficients.safetensors"):
        before, after = (load_file(tmp_path / folder / file) for folder in ("probed", "read"))
        assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert "which no probe was read for" in (tmp_path / "read" / "README.md").read_text()


def test_files_weigh_es_in_factor_space_alone(ask: Asking) -> None:
    with pytest.raises(ConfigError, match="not method=average in merge_space=factors"):
        ask("method=average", "coefficients.layer=a.csv", *OF_MERGE)
    with pytest.raises(ConfigError, match="not method=es in merge_space=delta"):
        ask("merge_space=delta", "coefficients.layer=a.csv", *OF_MERGE)


def test_every_expert_has_a_role(ask: Asking) -> None:
    with pytest.raises(ConfigError, match="expected every expert once, mol, prot"):
        ask("coefficients.layer=a.csv", "coefficients.roles.mol=mol")


def test_files_that_are_not_there(plan: Callable[..., MergePlan], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"coefficients\.layer=.*none\.csv does not exist"):
        carry_out(plan("granularity=layer", f"coefficients.layer={tmp_path / 'none.csv'}", *OF_MERGE))
    with pytest.raises(StoreError, match="cannot be read"):
        exported(tmp_path / "none.safetensors", tmp_path / "authors", *ROLES)


def test_formats_that_nobody_reads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format='json': expected one of authors"):
        exported(tmp_path, tmp_path, "format=json")
