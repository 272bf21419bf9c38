"""PEFT folders: PEFT reads what is written as the same update; what PEFT writes is read; the rest is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from esmerge.adapters import peft_folder as adapter_io
from esmerge.adapters import reader
from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.adapters.peft_config import check_settings
from esmerge.adapters.peft_folder import load_adapter, open_adapter, save_adapter
from esmerge.core.errors import AdapterError
from esmerge.core.lazy import LazyMapping

ROOT = "base_model.model.model.layers"
MODULES = [f"{ROOT}.{layer}.{part}" for layer in (0, 1, 2) for part in ("mlp.up_proj", "self_attn.q_proj")]


def backbone() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def make_state(ranks: list[int], scales: list[float], seed: int = 0, dtype: torch.dtype = torch.float32) -> LoraState:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    return LoraState(
        {
            module: LoraFactors(draw(rank, 8), draw(12 if "up_proj" in module else 8, rank), scale)
            for module, rank, scale in zip(MODULES, ranks, scales, strict=True)
        },
        "org/backbone",
    )


def simple(seed: int = 0) -> LoraState:
    return make_state([2] * 6, [2.0] * 6, seed)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, path)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ranks=st.lists(st.integers(1, 5), min_size=6, max_size=6),
    scales=st.lists(st.sampled_from([0.3, 1.0, 2.0, 2**-0.5]), min_size=6, max_size=6),
    seed=st.integers(0, 999),
)
def test_peft_loads_the_same_updates(tmp_path: Path, ranks: list[int], scales: list[float], seed: int) -> None:
    state = make_state(ranks, scales, seed)
    save_adapter(state, tmp_path / "adapter")
    model = PeftModel.from_pretrained(backbone(), tmp_path / "adapter")
    layers = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert layers == set(MODULES)
    for module, factors in state.modules.items():
        update = model.get_submodule(module).get_delta_weight("default")
        torch.testing.assert_close(update, factors.delta(), rtol=1e-5, atol=1e-6)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ranks=st.lists(st.integers(1, 5), min_size=6, max_size=6),
    scales=st.lists(st.sampled_from([0.3, 1.0, 2.0, 2**-0.5]), min_size=6, max_size=6),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_round_trip_changes_nothing(
    tmp_path: Path, ranks: list[int], scales: list[float], dtype: torch.dtype
) -> None:
    state = make_state(ranks, scales, dtype=dtype)
    save_adapter(state, tmp_path / "adapter")
    adapter = load_adapter(tmp_path / "adapter", "mine")
    assert list(adapter.modules) == list(state.modules) and adapter.base_model == "org/backbone"
    assert all(torch.equal(tensor, adapter.tensors()[key]) for key, tensor in state.tensors().items())
    assert all(tensor.dtype == dtype for tensor in adapter.tensors().values())
    assert all(adapter.modules[m].scale == pytest.approx(f.scale, rel=1e-12) for m, f in state.modules.items())


@pytest.mark.parametrize("rslora", [False, True])
def test_what_peft_writes_is_read_with_its_scales(tmp_path: Path, rslora: bool) -> None:
    # later patterns match too, but PEFT takes the first; "q_proj" also ends other names, "1.mlp.up_proj" does not
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=rslora,
        target_modules=["q_proj", "up_proj"],
        rank_pattern={r"^model\.layers\.0\.self_attn\.q_proj": 3, "q_proj": 2, "1.mlp.up_proj": 5},
        alpha_pattern={"layers.[02].mlp.up_proj": 7},
    )
    model = get_peft_model(backbone(), config)
    for parameter in model.parameters():
        parameter.data.normal_()
    model.save_pretrained(tmp_path)
    state = load_adapter(tmp_path, "mine")
    assert list(state.modules) == MODULES
    assert {m.split("layers.")[1]: f.rank for m, f in state.modules.items()} == {
        "0.mlp.up_proj": 4,
        "0.self_attn.q_proj": 3,
        "1.mlp.up_proj": 5,
        "1.self_attn.q_proj": 2,
        "2.mlp.up_proj": 4,
        "2.self_attn.q_proj": 2,
    }
    for module, factors in state.modules.items():
        assert factors.scale == pytest.approx(model.get_submodule(module).scaling["default"])
        torch.testing.assert_close(factors.delta(), model.get_submodule(module).get_delta_weight("default"))


def test_layers_are_ordered_by_number(tmp_path: Path) -> None:
    modules = {
        f"{ROOT}.{layer}.q_proj": LoraFactors(torch.ones(1, 2), torch.ones(2, 1), 1.0) for layer in (10, 2, 0, 1)
    }
    save_adapter(LoraState(modules), tmp_path / "adapter")
    names = list(load_adapter(tmp_path / "adapter", "mine").modules)
    assert names == [f"{ROOT}.{layer}.q_proj" for layer in (0, 1, 2, 10)]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"alora_invocation_tokens": [3]}, r".*applies to part of the tokens only\)$"),
        ({"bias": "all"}, "bias='all' .biases of the backbone were trained.*full fine-tune"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\]"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4'"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(tmp_path: Path, changes: dict, named: str) -> None:
    save_adapter(simple(), tmp_path / "adapter")
    edit_config(tmp_path / "adapter", **changes)
    with pytest.raises(AdapterError, match=f"'mine' is not plain LoRA and cannot be merged: {named}"):
        load_adapter(tmp_path / "adapter", "mine")


def test_settings_are_checked_wherever_they_stand() -> None:
    config, file = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "modules_to_save": ["head"]}, Path("hub/config.json")
    check_settings(config, "mol", file, allowed=("modules_to_save",))
    for changes, message in (
        ({}, "whole modules were trained"),
        ({"modules_to_save": None, "r": 0}, r"adapter 'mol': hub/config\.json says 'r': 0, expected a whole number"),
        ({"peft_type": "VERA"}, "is of type 'VERA'"),
    ):
        with pytest.raises(AdapterError, match=message):
            check_settings({**config, **changes}, "mol", file)


def test_configs_that_say_too_little_are_refused(tmp_path: Path) -> None:
    save_adapter(simple(), tmp_path / "adapter")
    edit_config(tmp_path / "adapter", lora_alpha=None)
    with pytest.raises(AdapterError, match="does not say lora_alpha"):
        load_adapter(tmp_path / "adapter", "mine")
    edit_config(tmp_path / "adapter", lora_alpha=0)
    with pytest.raises(AdapterError, match="says 'lora_alpha': 0, expected a finite number other than 0"):
        load_adapter(tmp_path / "adapter", "mine")
    edit_config(tmp_path / "adapter", lora_alpha=4, bias=None)
    assert load_adapter(tmp_path / "adapter", "mine").modules, "no bias is no trained bias"
    edit_config(tmp_path / "adapter", peft_type="IA3")
    with pytest.raises(AdapterError, match="'mine' is of type 'IA3'"):
        load_adapter(tmp_path / "adapter", "mine")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(AdapterError, match="not valid JSON"):
        load_adapter(tmp_path / "adapter", "mine")
    with pytest.raises(AdapterError, match="adapter_config.json does not exist"):
        load_adapter(tmp_path / "nowhere", "mine")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    save_adapter(simple(), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(AdapterError, match="adapter_model.bin is a pickle, .* save_pretrained.FOLDER"):
        load_adapter(tmp_path / "adapter", "mine")


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path) -> None:
    save_adapter(simple(), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(AdapterError, match="cannot be read as safetensors"):
        load_adapter(tmp_path / "adapter", "mine")


def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    key = f"{MODULES[0]}.lora_A.weight"
    foreign_key = "base_model.model.lm_head.weight"
    hole = torch.ones(2, 8)
    hole[0, 0] = torch.inf
    faults = [
        ({key: None}, f"lacks LoRA factors: {MODULES[0]}.lora_A"),
        ({foreign_key: torch.ones(2, 2)}, f"not LoRA factors: {foreign_key}"),
        ({key: torch.ones(2, 8, 1)}, rf"not LoRA factors: {key} \(2, 8, 1\)"),
        ({key: torch.ones(2, 8, dtype=torch.int8)}, rf"not LoRA factors: {key} \(2, 8\) I8"),
        ({key: torch.ones(3, 8)}, rf"{MODULES[0]} has A \(3, 8\) and B \(12, 2\), but its config says rank 2"),
        ({key: hole}, f"holds NaN or infinite values in {key}"),
    ]
    for i, (changes, message) in enumerate(faults):
        save_adapter(simple(), tmp_path / str(i))
        edit_tensors(tmp_path / str(i), **changes)
        with pytest.raises(AdapterError, match=f"'mine'.*{message}"):
            load_adapter(tmp_path / str(i), "mine")


def test_an_existing_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "adapter"
    save_adapter(simple(seed=0), folder)
    (folder / "stale.txt").write_text("old")
    save_adapter(simple(seed=1), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert torch.equal(load_adapter(folder, "mine").modules[MODULES[0]].a, simple(seed=1).modules[MODULES[0]].a)
    assert [path.name for path in folder.parent.iterdir()] == ["adapter"]


def test_a_failure_leaves_the_old_folder_and_no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_adapter(simple(seed=0), tmp_path / "adapter")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(adapter_io, "write_tensors", full)
    with pytest.raises(OSError, match="no space"):
        save_adapter(simple(seed=1), tmp_path / "adapter")
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert torch.equal(load_adapter(tmp_path / "adapter", "mine").modules[MODULES[0]].a, simple().modules[MODULES[0]].a)


def test_states_that_peft_could_not_load_are_not_written(tmp_path: Path) -> None:
    factors = next(iter(simple().modules.values()))
    with pytest.raises(AdapterError, match="must be named base_model.model.<path>, got layers.0.q_proj"):
        save_adapter(LoraState({"layers.0.q_proj": factors}), tmp_path / "adapter")
    with pytest.raises(AdapterError, match="got none"):
        save_adapter(LoraState({}), tmp_path / "adapter")
    broken = replace(factors, a=torch.full_like(factors.a, torch.nan))
    with pytest.raises(AdapterError, match="NaN"):
        save_adapter(LoraState({MODULES[0]: broken}), tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_the_card_names_library_backbone_and_notes(tmp_path: Path) -> None:
    state = replace(simple(), notes={"svd_relative_residual": 0.25})
    save_adapter(state, tmp_path / "adapter", base_model="mine: own", card="Merged by hand.")
    text = (tmp_path / "adapter" / "README.md").read_text()
    _, head, body = text.split("---\n")
    assert "library_name: peft" in head and 'base_model: "mine: own"' in head
    assert "# adapter" in body and "Merged by hand." in body and "- svd_relative_residual: 0.25" in body
    assert load_adapter(tmp_path / "adapter", "mine").base_model == "mine: own"


def test_an_opened_adapter_is_read_module_by_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_adapter(simple(), tmp_path / "adapter")
    opened, loaded = open_adapter(tmp_path / "adapter", "mine"), load_adapter(tmp_path / "adapter", "mine")
    assert isinstance(opened.modules, LazyMapping) and isinstance(loaded.modules, dict)
    assert list(opened.modules) == list(loaded.modules)
    assert all(torch.equal(tensor, loaded.tensors()[key]) for key, tensor in opened.tensors().items())
    reads: list[str] = []
    original_open = reader.safe_open

    def counted(path: Path, framework: str) -> Any:
        reads.append(path.name)
        return original_open(path, framework=framework)

    monkeypatch.setattr(reader, "safe_open", counted)
    assert len(opened.modules) == len(MODULES) and MODULES[0] in opened.modules and not reads
    assert len(list(opened.tensors().values())) == 2 * len(MODULES) and len(reads) == len(MODULES), "each once"


def test_an_adapter_computed_on_demand_is_asked_for_once_when_it_is_saved(tmp_path: Path) -> None:
    state, computed = simple(), []

    def compute(module: str) -> LoraFactors:
        computed.append(module)
        return state.modules[module]

    save_adapter(LoraState(LazyMapping(state.modules, compute)), tmp_path / "adapter")
    assert computed == list(state.modules)
    assert torch.equal(load_adapter(tmp_path / "adapter", "x").modules[MODULES[0]].a, state.modules[MODULES[0]].a)
