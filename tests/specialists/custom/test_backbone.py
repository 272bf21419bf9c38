from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.standalone.tiny import CONFIGS, save_backbone

from esmerge.core.errors import ConfigError
from esmerge.model.backbone import decoder_layers
from esmerge.specialists.families.custom.backbone import (
    load_backbone,
    load_tokenizer,
    located,
    names_of,
    read_config,
    skeleton,
)


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_layers_are_found_in_a_model_without_weights(kind: str, tmp_path: Path) -> None:
    model: Any = skeleton(str(save_backbone(tmp_path / "backbone", kind)))
    path, layers = decoder_layers(model)
    assert len(layers) == 3 and model.get_submodule(path) is layers
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_dtype_and_fingerprint(tmp_path: Path) -> None:
    folder = str(save_backbone(tmp_path / "backbone"))
    own, half = load_backbone(folder, "auto", "cpu"), load_backbone(folder, "bfloat16", "cpu")
    assert (str(own.model.dtype), str(half.model.dtype)) == ("torch.float32", "torch.bfloat16")
    assert own.fingerprint != half.fingerprint
    assert own.fingerprint == load_backbone(folder, "float32", "cpu").fingerprint
    assert not any(parameter.requires_grad for parameter in own.model.parameters())


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="backbone=owner/none is no folder here, and the hub .* cannot be reached"):
        read_config("owner/none")


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path / "backbone")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ConfigError, match=f"backbone={folder} cannot be loaded"):
        load_tokenizer(str(folder))


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_backbone(tmp_path / "backbone")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "owner/Model"}))
    assert names_of(str(folder)) == {str(folder), "owner/Model"} and names_of("owner/Other") == {"owner/Other"}
    monkeypatch.chdir(tmp_path)
    assert located("backbone") == str(folder) and located("owner/Other") == "owner/Other"
