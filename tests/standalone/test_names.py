"""Names that users choose: any word of an expert's works, or is refused before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.standalone.conftest import World

from esmerge.core.errors import ConfigError
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.experiment.standalone.write import carry_out
from esmerge.specialists.families.custom.settings import CustomSettings

Planned = Callable[..., MergePlan]
TAKEN = ["forward", "keys", "type"]  # by torch's containers
NAMES = [*TAKEN, "layers", "weight", "layer", "true", "null", "1", "default", "lora_A", "base"]


def merged(plan: Planned, folder: Path, experts: dict[str, Path], probe: Path) -> dict[str, torch.Tensor]:
    result = carry_out(plan("granularity.projections=4", f"out={folder}", experts=experts, probe=probe))
    return load_file(result.folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def renamed(llama: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, Path], Path]]:
    """The experts and the probe with another name for the first expert."""

    def rename(name: str) -> tuple[dict[str, Path], Path]:
        first, *others = llama.experts
        path = tmp_path_factory.mktemp("renamed") / "probe.jsonl"
        lines = [json.loads(line) for line in llama.probe.read_text().splitlines()]
        path.write_text("\n".join(json.dumps({name: line.pop(first), **line}) for line in lines))
        return {name: llama.experts[first], **{other: llama.experts[other] for other in others}}, path

    return rename


def test_an_expert_may_have_any_name(
    renamed: Callable[[str], tuple[dict[str, Path], Path]], plan: Planned, tmp_path: Path
) -> None:
    first, *others = [merged(plan, tmp_path / name, *renamed(name)) for name in NAMES]
    shapes = {key: tensor.shape for key, tensor in first.items()}
    for name, other in zip(NAMES[1:], others, strict=True):
        assert {key: tensor.shape for key, tensor in other.items()} == shapes, name
        assert all(torch.isfinite(tensor).all() for tensor in other.values()), name


@pytest.mark.parametrize("name", ["a b", "a.b", "é", "", "x" * 65])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"experts\..*: a name is made of 1 to 64 letters, digits, - and _"):
        CustomSettings(backbone="b", experts={name: "x", "other": "y"})
