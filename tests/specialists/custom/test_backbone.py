from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.standalone.tiny import CONFIGS, save_backbone
from torch import nn

from esmerge.core.errors import ConfigError
from esmerge.model.backbone import decoder_layers
from esmerge.specialists.families.custom import holding
from esmerge.specialists.families.custom.backbone import (
    load_backbone,
    load_tokenizer,
    located,
    read_config,
    skeleton,
)
from esmerge.specialists.families.custom.base_model import is_base_model
from esmerge.specialists.families.custom.holding import check_resident
from esmerge.specialists.families.custom.source import BackboneSource, LoadedBackbone, backbone_source


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_layers_are_found_in_a_model_without_weights(kind: str, tmp_path: Path) -> None:
    model: Any = skeleton(str(save_backbone(tmp_path / "backbone", kind)))
    path, layers = decoder_layers(model)
    assert len(layers) == 3 and model.get_submodule(path) is layers
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_dtype_and_fingerprint(tmp_path: Path) -> None:
    folder = str(save_backbone(tmp_path / "backbone"))
    source = LoadedBackbone(folder)
    own, half = load_backbone(source, "auto", "cpu"), load_backbone(source, "bfloat16", "cpu")
    assert (str(own.model.dtype), str(half.model.dtype)) == ("torch.float32", "torch.bfloat16")
    assert own.fingerprint != half.fingerprint
    assert own.fingerprint == load_backbone(source, "float32", "cpu").fingerprint
    assert not any(parameter.requires_grad for parameter in own.model.parameters())


def test_a_fingerprint_depends_on_what_config_and_tokenizer_say(tmp_path: Path) -> None:
    """Rotary frequencies and how texts are cut change what the same weights compute; a folder's name does not."""
    folders = {name: save_backbone(tmp_path / name) for name in ("plain", "copy", "rotary", "lower")}
    config = json.loads((folders["rotary"] / "config.json").read_text())
    config["rope_parameters"] = {**config.get("rope_parameters", {}), "rope_type": "default", "rope_theta": 123.0}
    (folders["rotary"] / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folders["lower"] / "tokenizer.json").read_text())
    (folders["lower"] / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": {"type": "Lowercase"}}))
    prints = {
        name: load_backbone(LoadedBackbone(str(folder)), "auto", "cpu").fingerprint for name, folder in folders.items()
    }
    assert prints["plain"] == prints["copy"] and len(set(prints.values())) == 3


def test_a_device_map_is_what_transformers_makes_of_it(tmp_path: Path) -> None:
    source = LoadedBackbone(str(save_backbone(tmp_path / "backbone")), device_map={"": "cpu"})
    assert holding.holding(source, "auto", "cuda:7") == {"device_map": {"": "cpu"}}
    body = load_backbone(source, "auto", "cuda:7")
    assert body.device == torch.device("cpu"), "the map says where it is, not the device"
    assert body.fingerprint == load_backbone(replace(source, device_map=None), "auto", "cpu").fingerprint


def test_a_part_that_fits_nowhere_is_refused() -> None:
    with torch.device("meta"):
        absent = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="backbone.device_map left 0.weight, 0.bias on no GPU.*quantise=8 or 4"):
        check_resident(nn.Sequential(absent, nn.Linear(2, 2)))


def test_bits_are_told_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "find_spec", lambda name: name)
    eight = holding.holding(LoadedBackbone("b", quantise=8), "bfloat16", "cuda:1")
    assert eight["device_map"] == {"": "cuda:1"} and eight["quantization_config"].load_in_8bit
    four = holding.holding(LoadedBackbone("b", device_map="auto", quantise=4), torch.float16, "cuda")
    config = four["quantization_config"]
    assert four["device_map"] == "auto" and config.load_in_4bit and config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_compute_dtype == torch.float16
    assert holding.holding(LoadedBackbone("b"), "auto", "cuda") == {}


def test_bits_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "find_spec", lambda name: None)
    source = LoadedBackbone(str(save_backbone(tmp_path / "backbone")), quantise=4)
    with pytest.raises(ConfigError, match=r"backbone.quantise=4 needs bitsandbytes: pip install .*\[quantise\]"):
        load_backbone(source, "auto", "cpu")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"quantise": 3}, "backbone.quantise=3: expected 8 or 4 bits, or null"),
        ({"device_map": 2}, "backbone.device_map=2: expected auto, balanced"),
        ({"bits": 4}, "backbone.bits is not a setting: expected one of path, trust_remote_code, device_map, quantise"),
    ],
)
def test_wrong_ways_to_hold_a_backbone(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backbone_source({"path": "backbone", **node}, LoadedBackbone)


def test_a_backbone_that_is_only_read_is_held_in_no_way() -> None:
    with pytest.raises(ConfigError, match="backbone.quantise is not a setting"):
        backbone_source({"path": "backbone", "quantise": 4}, BackboneSource)


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
    assert all(is_base_model(name, str(folder)) for name in (str(folder), "owner/Model", "owner/backbone"))
    assert not is_base_model("owner/Other", str(folder)) and is_base_model("owner/Other", "owner/Other")
    monkeypatch.chdir(tmp_path)
    assert located("backbone") == str(folder) and located("owner/Other") == "owner/Other"
