"""What cannot be merged is refused before anything is loaded, by name and with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import composed
from tests.standalone.conftest import World
from tests.standalone.tiny import TEXTS, save_backbone, train_adapter

from esmerge.core.errors import AdapterError, BenchError, ConfigError, InputError, StoreError
from esmerge.experiment.standalone import plan as planning
from esmerge.experiment.standalone.request import read_request
from esmerge.specialists.families.custom.backbone import skeleton

FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
Planned = Callable[..., Any]


def changed(source: Path, folder: Path, **config: Any) -> Path:
    """A copy of an adapter that says other things in its config."""
    shutil.copytree(source, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def with_tensors(source: Path, folder: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of an adapter with tensors added, replaced or, where None, left out."""
    shutil.copytree(source, folder)
    path = folder / "adapter_model.safetensors"
    contents = {**load_file(path), **tensors}
    save_file({name: tensor for name, tensor in contents.items() if tensor is not None}, path)
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "'prot' is not plain LoRA.*use_dora=True .DoRA rescales the backbone's weights"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save=\['lm_head'\] .whole modules were trained"),
        ({"bias": "lora_only"}, "bias='lora_only' .biases of the backbone were trained"),
        ({"trainable_token_indices": [1]}, "token embeddings were trained"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' .the backbone was edited"),
        ({"peft_type": "LOHA"}, "'prot' is of type 'LOHA': only LORA"),
        ({"rank_pattern": {"q_proj": 3}}, rf"{FIRST} has A \(4, 16\) and B \(16, 4\), but its config says rank 3"),
        ({"use_rslora": True}, "'mol' has LoRA scale 2, 'prot' 4; use merge_space=delta, or .*method.fold_scales=true"),
        ({"base_model_name_or_path": "other/Model-7B"}, "'prot' was trained on other/Model-7B .*allow_other_base=true"),
    ],
)
def test_configs_of_other_adapters(
    config: dict[str, Any], message: str, llama: World, plan: Planned, tmp_path: Path
) -> None:
    other = changed(llama.experts["prot"], tmp_path / "other", **config)
    with pytest.raises(AdapterError, match=message):
        plan(experts={**llama.experts, "prot": other})


def test_what_a_user_may_say_about_scales_and_names(llama: World, plan: Planned, tmp_path: Path) -> None:
    other = changed(llama.experts["prot"], tmp_path / "other", use_rslora=True, base_model_name_or_path="a/Other")
    experts = {**llama.experts, "prot": other}
    merge_plan = plan("method.fold_scales=true", "allow_other_base=true", experts=experts)
    assert merge_plan.experts["prot"].modules[FIRST].scale == 4
    assert plan("merge_space=delta", "allow_other_base=true", experts=experts).space == "delta"


@pytest.mark.parametrize("name", ["owner/Backbone", "/elsewhere/models--owner--Backbone/snapshots/0abc", "BACKBONE"])
def test_a_backbone_may_go_by_other_names(name: str, llama: World, plan: Planned, tmp_path: Path) -> None:
    other = changed(llama.experts["prot"], tmp_path / "other", base_model_name_or_path=name)
    assert plan(experts={**llama.experts, "prot": other}).depth == 3


def test_another_backbone_in_a_folder_of_the_same_name(llama: World, plan: Planned, tmp_path: Path) -> None:
    finetuned = save_backbone(tmp_path / llama.backbone.name, seed=1)
    other = changed(llama.experts["prot"], tmp_path / "other", base_model_name_or_path=str(finetuned))
    with pytest.raises(AdapterError, match=r"'prot' was trained on .*, the backbone is .*allow_other_base=true"):
        plan(experts={**llama.experts, "prot": other})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{FIRST}.lora_A.weight": None}, f"'prot' lacks LoRA factors: {FIRST}.lora_A"),
        ({f"{FIRST}.lora_A.weight": torch.ones(4, 16, dtype=torch.int8)}, rf"{FIRST}.lora_A.weight \(4, 16\) I8"),
        ({"base_model.model.model.embed_tokens.weight": torch.ones(330, 16)}, "embed_tokens.weight .*embeddings"),
        ({"base_model.model.model.layers.0.self_attn.q_proj.bias": torch.ones(16)}, "q_proj.bias"),
        ({f"{FIRST}.lora_magnitude_vector.weight": torch.ones(16)}, "lora_magnitude_vector"),
        (
            {f"{FIRST}.lora_A.weight": torch.ones(4, 12)},
            r"'mol' updates a \(16, 16\) weight, 'prot' a \(16, 12\) one; are they of one backbone",
        ),
    ],
)
def test_tensors_that_are_no_factors(
    tensors: dict[str, Any], message: str, llama: World, plan: Planned, tmp_path: Path
) -> None:
    other = with_tensors(llama.experts["prot"], tmp_path / "other", **tensors)
    with pytest.raises(AdapterError, match=message):
        plan(experts={**llama.experts, "prot": other})


def test_adapters_of_a_backbone_of_another_width(plan: Planned, llama: World, tmp_path: Path) -> None:
    wide = save_backbone(tmp_path / "wide", hidden_size=32, head_dim=16)
    with pytest.raises(
        AdapterError, match=r"'mol' updates model.layers.0.mlp.down_proj by \(16, 24\).* has \(32, 24\)"
    ):
        plan(f"backbone={wide}", "allow_other_base=true")


def test_a_module_that_the_backbone_lacks_or_that_is_in_no_layer(plan: Planned, llama: World, tmp_path: Path) -> None:
    for key, message in {
        "model.layers.9.self_attn.q_proj": "adapts model.layers.9.self_attn.q_proj: .* has no such linear layer",
        "lm_head": r"adapts lm_head: only modules of decoder layers \(model.layers.…\) are merged",
    }.items():
        factors = {"A": torch.ones(4, 16), "B": torch.ones(330 if key == "lm_head" else 16, 4)}
        new = {f"base_model.model.{key}.lora_{half}.weight": tensor for half, tensor in factors.items()}
        experts = {n: with_tensors(path, tmp_path / key / n, **new) for n, path in llama.experts.items()}
        with pytest.raises(AdapterError, match=message):
            plan(experts=experts)


def test_ranks_that_differ(plan: Planned, llama: World, tmp_path: Path) -> None:
    other = train_adapter(llama.backbone, tmp_path / "other", TEXTS["prot"], 1, r=2, lora_alpha=4)
    experts = {**llama.experts, "prot": other}
    with pytest.raises(AdapterError, match="'mol' has rank 4, 'prot' rank 2; .*use merge_space=delta"):
        plan(experts=experts)
    assert plan("merge_space=delta", experts=experts).space == "delta"


def test_missing_modules_unless_they_are_allowed(plan: Planned, llama: World, tmp_path: Path) -> None:
    other = train_adapter(llama.backbone, tmp_path / "other", TEXTS["prot"], 1, target_modules=["q_proj"])
    experts = {**llama.experts, "prot": other}
    with pytest.raises(AdapterError, match="'prot' lacks .*down_proj.* Say allow_partial=true"):
        plan(experts=experts)
    merge_plan = plan("allow_partial=true", experts=experts)
    assert len(merge_plan.missing["prot"]) == 6 and "mol" not in merge_plan.missing
    filled = merge_plan.experts["prot"].modules["base_model.model.model.layers.2.self_attn.v_proj"]
    assert not filled.a.any() and not filled.b.any() and filled.rank == 4


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('{"mol": "CCO"}', InputError, "line 5 has no text for expert 'prot'"),
        ('{"mol": "CCO", "prot": " "}', InputError, "line 5 has no text for expert 'prot': each needs a non-empty one"),
        ('{"mol": "CCO", "prot": "\\u0000"}', InputError, "prot .* is empty: it has no tokens"),
        ("[1]", InputError, "line 5 is a list: expected an object"),
        ("{", InputError, "line 5 is not JSON"),
    ],
)
def test_probe_lines(
    line: str, error: type[BenchError], message: str, llama: World, plan: Planned, tmp_path: Path, monkeypatch: Any
) -> None:
    probe = tmp_path / "probe.jsonl"
    probe.write_text(llama.probe.read_text() + line + "\n")
    original = planning.load_tokenizer

    def deaf(name: str, trusted: bool) -> Any:
        """Real tokenizers drop control characters; this one drops one as well."""
        tokenizer = original(name)
        return type("Deaf", (), {"__call__": lambda self, text, **_: {"input_ids": [] if text == "\0" else [5]},
                                 "bos_token_id": 2, "pad_token_id": 0, "vocab": tokenizer})()  # fmt: skip

    if "\\u0000" in line:
        monkeypatch.setattr(planning, "load_tokenizer", deaf)
    with pytest.raises(error, match=message):
        plan(probe=probe)


def test_a_probe_file_that_is_not_there(plan: Planned, llama: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="probe.file .*nowhere.jsonl does not exist"):
        plan(probe=tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~experts.prot", "at least two experts, got mol: give experts.NAME=PEFT_FOLDER"),
        ("experts.prot={path: x, encodr: y}", "experts.prot.encodr is not a setting: expected one of path, encoder"),
        ("experts.prot=3", "experts.prot=3: expected a PEFT folder, or {path: FOLDER, encoder: MODULE:FUNCTION}"),
        ("experts.prot={path: x, encoder: y}", "encoder='y': expected package.module:function"),
        ("experts={a: x, b c: y}", "experts.b c: a name is made of 1 to 64 letters, digits, - and _"),
        ("backbone=null", "backbone is not set"),
        ("out=null", "out is not set: give the folder"),
        (
            "probe.file=null",
            'method=es reads a probe: give probe.file=FILE, .*such as {"mol": "…", "prot',
        ),
        ("merge_space=weights", "merge_space='weights': expected one of factors, delta"),
        ("method=base", "method=base is a reference for benchmarks, not a merge"),
        ("method=emr", "method=emr makes one adapter for each task"),
        ("method=adamerging", "method=adamerging measures entropy on a benchmark's questions"),
        ("compute.dtype=int4", "dtype='int4': expected one of auto, bfloat16"),
        ("granularity.tau=0", "granularity.tau=0.0 must be greater than 0"),
        ("seed=-1", "merge.seed=-1: expected a number from 0"),
        ("+colour=red", "merge.colour is not a setting: expected one of out, overwrite"),
    ],
)
def test_settings(override: str, message: str, ask: Callable) -> None:
    with pytest.raises(ConfigError, match=message):
        ask(override)


@pytest.mark.parametrize("probe", ["mixed", "single", "shuffled"])
def test_probes_that_draw_from_a_pool(probe: str) -> None:
    overrides = ("backbone=b", "experts.mol=m", "experts.prot=p", "out=o", f"probe={probe}")
    with pytest.raises(ConfigError, match=f"probe={probe} draws from texts .*: use probe=text probe.file=FILE"):
        read_request(composed(*overrides, config="merge"))


def test_folders_that_are_in_the_way(ask: Callable, llama: World, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="out=.*out exists: give another folder, or say overwrite=true"):
        ask()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no adapter and no model, and is not replaced"):
        ask("overwrite=true")
    (tmp_path / "out" / "adapter_config.json").write_text("{}")
    ask("overwrite=true")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not replaced"):
        ask(f"out={tmp_path / 'file'}", "overwrite=true")
    with pytest.raises(ConfigError, match="would replace experts.mol=.*, which is used"):
        ask(f"out={llama.experts['mol']}", "overwrite=true")
    probe = shutil.copy(llama.probe, tmp_path / "out")
    with pytest.raises(ConfigError, match="would replace probe file=.*, which is used"):
        ask(f"probe.file={probe}", "overwrite=true")
    with pytest.raises(ConfigError, match="would replace cache=.*, which is used"):
        ask(f"cache={tmp_path / 'out' / 'cache'}", "overwrite=true")


def test_backbones_that_cannot_be_used(plan: Planned, llama: World, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ConfigError, match="backbone=.*absent is no folder here"):
        plan(f"backbone={tmp_path / 'absent'}")  # not that the adapters are of another one
    with pytest.raises(ConfigError, match="backbone=.*empty cannot be loaded"):
        (tmp_path / "empty").mkdir()
        plan(f"backbone={tmp_path / 'empty'}", "allow_other_base=true")
    quantised = tmp_path / "quantised"
    shutil.copytree(llama.backbone, quantised)
    config = json.loads((quantised / "config.json").read_text())
    quantised_config = {**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (quantised / "config.json").write_text(json.dumps(quantised_config))
    with pytest.raises(ConfigError, match="quantised: give the model that it was made from"):
        plan(f"backbone={quantised}", "allow_other_base=true")
    (quantised / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ConfigError, match="is a t5 with an encoder: expected a decoder-only model"):
        plan(f"backbone={quantised}", "allow_other_base=true")


def test_a_disk_without_room_is_seen_before_the_work(plan: Planned, monkeypatch: Any) -> None:
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match="needs at least .* and .* has 10 bytes: make room"):
        plan()


def test_baking_needs_a_folder(plan: Planned, llama: World, monkeypatch: Any) -> None:
    hollow = skeleton(str(llama.backbone))
    monkeypatch.setattr(planning, "located", lambda _: "owner/name")
    monkeypatch.setattr(planning, "skeleton", lambda *_: hollow)
    with pytest.raises(ConfigError, match="bake=true needs the backbone as a folder, owner/name is a hub id"):
        plan("bake=true")


def test_folders_that_cannot_be_written_are_named_before_anything_is_loaded(
    plan: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "open_experts", None)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=f"cache={tmp_path}/file/c cannot be written .*{tmp_path}/file is no folder"):
        plan(f"cache={tmp_path}/file/c")
    with pytest.raises(StoreError, match=f"out={tmp_path}/file cannot be written .*{tmp_path}/file is no folder"):
        plan(f"out={tmp_path}/file/out")


def test_home_is_expanded_in_every_setting(
    llama: World, ask: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(llama.probe.parent))
    experts = {name: f"'~/{path.relative_to(llama.probe.parent)}'" for name, path in llama.experts.items()}
    overrides = ["backbone='~/backbone'", "cache='~/cache'", "out='~/out'"]
    planned = planning.plan_merge(ask(*overrides, experts=experts, probe="'~/probe.jsonl'"))
    assert planned.request.output.folder == llama.probe.parent / "out" and planned.samples
    assert planned.request.spec.sweep.cache == str(llama.probe.parent / "cache")
