"""Adapters as PEFT, trainers and wrappers leave them: read as the same adapter, or refused by what they are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from esmerge.adapters.lora import LoraState
from esmerge.adapters.peft_folder import load_adapter, open_adapter
from esmerge.core.errors import AdapterError

WEIGHTS = "adapter_model.safetensors"
FIRST = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """An adapter as PEFT itself saves it."""
    config = LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2)
    torch.manual_seed(0)
    lora = LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "up_proj"], rank_pattern={"layers.1.mlp.up_proj": 3})
    model = get_peft_model(LlamaForCausalLM(config), lora, adapter_name="default")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    model.save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def rewritten(plain: Path, folder: Path, rename: Callable[[str], str]) -> Path:
    """The same adapter with other names in its file."""
    shutil.copytree(plain, folder)
    save_file({rename(key): tensor for key, tensor in load_file(plain / WEIGHTS).items()}, folder / WEIGHTS)
    return folder


def changed(plain: Path, folder: Path, change: Callable[[Tensor], Tensor]) -> Path:
    """The same adapter with other tensors in its file."""
    shutil.copytree(plain, folder)
    save_file({key: change(tensor) for key, tensor in load_file(plain / WEIGHTS).items()}, folder / WEIGHTS)
    return folder


def assert_same(adapter: LoraState, expected: LoraState) -> None:
    assert list(adapter.modules) == list(expected.modules) and adapter.header == expected.header
    assert all(torch.equal(tensor, expected.tensors()[key]) for key, tensor in adapter.tensors().items())


def test_patterns_written_for_a_compiled_model_are_observed(plain: Path, tmp_path: Path) -> None:
    folder = rewritten(
        plain, tmp_path / "compiled", lambda key: key.replace("base_model.model.", "base_model.model._orig_mod.", 1)
    )
    config = json.loads((folder / "adapter_config.json").read_text())
    patterns = {"_orig_mod.model.layers.0.self_attn.q_proj": 64, r"^model\.layers\.1\.self_attn\.q_proj": 8}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "alpha_pattern": patterns}))
    header = open_adapter(folder, "compiled").header
    assert header[FIRST].scale == 32 and header[FIRST.replace("0", "1")].scale == 4
    assert header[FIRST.replace("self_attn.q", "mlp.up")].scale == 3


def test_an_adapter_called_as_the_expert_comes_before_the_default_one(plain: Path) -> None:
    named = shutil.copytree(plain, plain.parent / "mol")
    save_file({key: 2 * tensor for key, tensor in load_file(plain / WEIGHTS).items()}, named / WEIGHTS)
    shutil.move(named, plain / "mol")
    assert_same(load_adapter(plain, "mol"), load_adapter(plain / "mol", "x"))
    default = load_adapter(plain, "prot").tensors()
    assert all(torch.equal(2 * default[key], tensor) for key, tensor in load_adapter(plain, "mol").tensors().items())


@pytest.mark.parametrize(
    ("rename", "note"),
    [
        (lambda key: key.replace(".weight", ".default.weight"), None),
        (lambda key: key.replace(".weight", ".my-adapter.weight"), None),
        (lambda key: key.removeprefix("base_model.model."), None),
        (lambda key: f"module.{key}", None),
        (lambda key: f"_orig_mod.{key}", "torch.compile"),
        (lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."), "torch.compile"),
        (lambda key: re.sub(r"(layers\.\d)", r"_fsdp_wrapped_module.\1._fsdp_wrapped_module", key), "FSDP"),
        (lambda key: re.sub(r"(layers\.\d)", r"\1._checkpoint_wrapped_module", key), "activation checkpointing"),
    ],
)
def test_names_that_wrappers_and_adapters_add_are_left_out(
    rename: Callable[[str], str], note: str | None, plain: Path, tmp_path: Path
) -> None:
    adapter = load_adapter(rewritten(plain, tmp_path / "renamed", rename), "mine")
    assert_same(adapter, load_adapter(plain, "plain"))
    notes = " ".join(map(str, adapter.notes.values()))
    assert note in notes if note else not notes


def test_a_named_adapter_lies_one_folder_deeper(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "model" / "default")
    assert_same(load_adapter(tmp_path / "model", "mine"), load_adapter(plain, "plain"))
    shutil.copytree(plain, tmp_path / "model" / "checkpoint-2")
    with pytest.raises(AdapterError, match="several adapters, checkpoint-2, default: give the folder of one, such as"):
        load_adapter(tmp_path / "model", "mine")
    assert_same(load_adapter(tmp_path / "model", "default"), load_adapter(plain, "plain"))


@pytest.mark.parametrize("indexed", [True, False])
def test_shards_are_one_adapter(indexed: bool, plain: Path, tmp_path: Path) -> None:
    tensors, folder = load_file(plain / WEIGHTS), tmp_path / "sharded"
    shutil.copytree(plain, folder)
    (folder / WEIGHTS).unlink()
    shards = {key: f"adapter_model-{1 + i % 2:05d}-of-00002.safetensors" for i, key in enumerate(sorted(tensors))}
    for file in set(shards.values()):  # the two factors of a module stand in different ones
        save_file({key: tensors[key] for key in tensors if shards[key] == file}, folder / file)
    if indexed:
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": shards}))
    assert_same(load_adapter(folder, "mine"), load_adapter(plain, "plain"))
    (folder / "adapter_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(AdapterError, match="lacks the shards adapter_model-00002-of-00002.safetensors: copy"):
        load_adapter(folder, "mine")


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_an_index_that_is_none(content: str, plain: Path, tmp_path: Path) -> None:
    (plain / WEIGHTS).unlink()
    (plain / f"{WEIGHTS}.index.json").write_text(content)
    with pytest.raises(AdapterError, match="is no index of shards"):
        load_adapter(plain, "mine")


def test_an_index_may_not_point_elsewhere(plain: Path, tmp_path: Path) -> None:
    (plain / WEIGHTS).rename(tmp_path / "outside.safetensors")
    (plain / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    with pytest.raises(AdapterError, match="lacks the shards ../outside.safetensors"):
        load_adapter(plain, "mine")


def test_factors_that_were_not_gathered(plain: Path, tmp_path: Path) -> None:
    empty = changed(plain, tmp_path / "zero", lambda tensor: torch.empty(0))
    with pytest.raises(AdapterError, match=rf"the factors {FIRST[:20]}.* are empty: .*DeepSpeed ZeRO-3.*zero_to_fp32"):
        open_adapter(empty, "mine")
    flat = changed(plain, tmp_path / "flat", lambda tensor: tensor.flatten()[:3].clone())
    with pytest.raises(AdapterError, match="flat pieces, no matrices: .* full state dict .FSDP"):
        open_adapter(flat, "mine")


def test_two_adapters_in_a_file(plain: Path, tmp_path: Path) -> None:
    tensors = load_file(plain / WEIGHTS)
    named = {
        key.replace(".weight", f".{name}.weight"): tensors[key].clone() for key in tensors for name in ("one", "two")
    }
    save_file(named, plain / WEIGHTS)
    with pytest.raises(AdapterError, match="one file holds the adapters one, two: save each in a folder of its own"):
        open_adapter(plain, "mine")
    save_file({**tensors, f"_orig_mod.{FIRST}.lora_A.weight": torch.ones(2, 8)}, plain / WEIGHTS)
    with pytest.raises(AdapterError, match=rf"holds {FIRST}.lora_A.weight twice"):
        open_adapter(plain, "mine")


def test_shards_are_read_through_open_handles(plain: Path, tmp_path: Path) -> None:
    expected, state = load_adapter(plain, "plain"), open_adapter(plain, "mine")
    with state.reading():
        assert_same(state, expected)
