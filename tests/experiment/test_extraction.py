"""LoRA factors of a full fine-tune, against updates that were put in, NumPy's SVD, PEFT and mergekit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from click.testing import CliRunner
from mergekit.scripts.extract_lora import main as mergekit_extract
from safetensors.torch import load_file, save_file
from tests.conftest import composed
from tests.standalone.tiny import save_backbone
from torch import Tensor
from transformers import AutoModelForCausalLM

from esmerge.adapters.peft_folder import load_adapter
from esmerge.core.errors import AdapterError, BenchError, ConfigError
from esmerge.experiment.extraction.configs import compare_configs, differing_settings
from esmerge.experiment.extraction.plan import ExtractionPlan, plan_extraction
from esmerge.experiment.extraction.request import read_extraction
from esmerge.experiment.extraction.terminal import show_comparison
from esmerge.experiment.extraction.write import ExtractionResult, extract
from esmerge.specialists.families.custom.backbone import read_config

Change = Callable[[str, Tensor], Tensor]
LAYERS = 3


def is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


def low_rank(name: str, weight: Tensor) -> Tensor:
    """Three directions more in every linear layer."""
    if not is_linear(name):
        return weight
    draw = torch.Generator().manual_seed(len(name) + weight.shape[1])
    return weight + torch.randn(weight.shape[0], 3, generator=draw) @ torch.randn(3, weight.shape[1], generator=draw)


def full_rank(name: str, weight: Tensor) -> Tensor:
    """Every entry of every linear layer moves."""
    if not is_linear(name):
        return weight
    return weight + torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))


def tuned_folder(backbone: Path, folder: Path, change: Change, shards: int = 1, prefix: str = "") -> Path:
    """A fine-tune as ``save_pretrained`` leaves it, in so many shards."""
    tensors = load_file(backbone / "model.safetensors")
    weights = {prefix + name: change(name, weight).contiguous() for name, weight in tensors.items()}
    folder.mkdir()
    (folder / "config.json").write_text((backbone / "config.json").read_text())
    if shards == 1:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder
    files = {name: f"model-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(weights)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in weights if files[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("base") / "backbone")


def planned(backbone: Path, tuned: Path, *settings: str) -> ExtractionPlan:
    overrides = [f"backbone={backbone}", f"tuned={tuned}", f"out={tuned.parent / 'out'}", "threads=1", *settings]
    return plan_extraction(*read_extraction(composed(*overrides, config="extract")))


def extracted(backbone: Path, tuned: Path, *settings: str) -> ExtractionResult:
    return extract(planned(backbone, tuned, *settings))


def updates(folder: Path) -> dict[str, Tensor]:
    return {module: f.delta() for module, f in load_adapter(folder, "extracted").modules.items()}


def differences(backbone: Path, change: Change) -> dict[str, Tensor]:
    """PEFT's module name -> W − W_base."""
    tensors = load_file(backbone / "model.safetensors")
    return {
        f"base_model.model.{name.removesuffix('.weight')}": change(name, weight) - weight
        for name, weight in tensors.items()
        if is_linear(name)
    }


def test_a_low_rank_update_comes_back_whole_from_shards(backbone: Path, tmp_path: Path) -> None:
    result = extracted(backbone, tuned_folder(backbone, tmp_path / "tuned", low_rank, shards=3), "rank=3")
    expected = differences(backbone, low_rank)
    assert len(expected) == 7 * LAYERS and updates(result.folder).keys() == expected.keys()
    for module, update in updates(result.folder).items():
        torch.testing.assert_close(update, expected[module], rtol=1e-4, atol=1e-4)
    assert result.residual() < 1e-5 and result.by_layer().keys() == {0, 1, 2}


def test_peft_gives_the_fine_tunes_answers(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank)
    result = extracted(backbone, tuned, "rank=5")
    ids = torch.tensor([[5, 17, 80, 200, 33]])
    with_adapter = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), result.folder)
    expected = AutoModelForCausalLM.from_pretrained(tuned)(input_ids=ids).logits
    torch.testing.assert_close(with_adapter(input_ids=ids).logits, expected, rtol=1e-3, atol=1e-3)


def test_residuals_are_those_of_the_singular_values_left_out(backbone: Path, tmp_path: Path) -> None:
    result = extracted(backbone, tuned_folder(backbone, tmp_path / "tuned", full_rank), "rank=4")
    table = pd.read_csv(result.folder / "extraction.csv").set_index("module")
    tensors, residual, total = load_file(backbone / "model.safetensors"), 0.0, 0.0
    for module, difference in differences(backbone, full_rank).items():
        path = module.removeprefix("base_model.model.")
        values = np.linalg.svd(difference.double().numpy(), compute_uv=False)
        row = table.loc[path]
        assert row["residual"] == pytest.approx(np.sqrt((values[4:] ** 2).sum() / (values**2).sum()), rel=1e-4)
        assert row["norm"] == pytest.approx(np.sqrt((values**2).sum()), rel=1e-5)
        assert row["relative_norm"] == pytest.approx(row["norm"] / tensors[f"{path}.weight"].norm().item(), rel=1e-4)
        assert row["rank"] == 4 and row["layer"] == int(path.split(".")[2])
        residual, total = residual + (values[4:] ** 2).sum(), total + (values**2).sum()
    assert result.residual() == pytest.approx(np.sqrt(residual / total), rel=1e-4)
    assert f"{result.residual():.3g} of the updates' norm" in (result.folder / "README.md").read_text()


def test_mergekit_extracts_the_same_updates(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", full_rank)
    result = extracted(backbone, tuned, "rank=4")
    arguments = ["--model", tuned, "--base-model", backbone, "--out-path", tmp_path / "mergekit", "--max-rank", "4"]
    outcome = CliRunner().invoke(
        mergekit_extract, [str(word) for word in [*arguments, "--include-regex", "_proj", "--skip-undecomposable"]]
    )
    assert outcome.exit_code == 0, outcome.output
    factors = load_file(tmp_path / "mergekit" / "adapter_model.safetensors")
    for module, update in updates(result.folder).items():
        other = factors[f"{module}.lora_B.weight"] @ factors[f"{module}.lora_A.weight"]
        torch.testing.assert_close(update, other, rtol=1e-3, atol=1e-4)


def test_weights_stored_the_other_way_round(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone", "gpt2")

    def change(name: str, weight: Tensor) -> Tensor:
        return weight + torch.outer(torch.ones(weight.shape[0]), weight[0]) if "attn.c_attn.weight" in name else weight

    result = extracted(backbone, tuned_folder(backbone, tmp_path / "tuned", change), "rank=1")
    tensors = load_file(backbone / "model.safetensors")
    deltas = updates(result.folder)
    assert len(deltas) == LAYERS
    for module, update in deltas.items():
        (weight,) = (value for name, value in tensors.items() if name.endswith(f"{module[-15:]}.weight"))
        expected = torch.outer(torch.ones(weight.shape[0]), weight[0])
        torch.testing.assert_close(update.T, expected, rtol=1e-4, atol=1e-5)


def test_changes_that_no_factor_holds_are_listed_and_refused(backbone: Path, tmp_path: Path) -> None:
    def change(name: str, weight: Tensor) -> Tensor:
        return 1.5 * weight if "norm" in name or "embed" in name else low_rank(name, weight)

    tuned = tuned_folder(backbone, tmp_path / "tuned", change)
    with pytest.raises(AdapterError, match=r"what is not extracted, 8 in all") as refusal:
        planned(backbone, tuned)
    assert "model.embed_tokens.weight (moved by 0.5 of its norm)" in str(refusal.value)
    assert "model.layers.2.post_attention_layernorm.weight" in str(refusal.value)
    result = extracted(backbone, tuned, "leave_out=true", "rank=3")
    table = pd.read_csv(result.folder / "extraction.csv")
    rows = table[table["remark"] == "left out"]
    assert (
        len(rows) == 8 and set(rows["residual"]) == {1.0} and rows["relative_norm"].tolist() == pytest.approx([0.5] * 8)
    )


def test_modules_beside_the_targets_are_left_out_by_name(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank)
    with pytest.raises(AdapterError, match=r"model\.layers\.0\.mlp\.down_proj\.weight"):
        planned(backbone, tuned, "targets=q_proj")
    plan = planned(backbone, tuned, "targets=q_proj|v_proj", "leave_out=true")
    assert len(plan.modules) == 2 * LAYERS and len(plan.left_out) == 5 * LAYERS


def test_added_rows_and_tensors_are_differences(backbone: Path, tmp_path: Path) -> None:
    def change(name: str, weight: Tensor) -> Tensor:
        return torch.cat([weight, weight[:1]]) if "embed" in name else low_rank(name, weight)

    with pytest.raises(AdapterError, match=r"embed_tokens.weight \(\(331, 16\) in place of \(330, 16\)\)"):
        planned(backbone, tuned_folder(backbone, tmp_path / "tuned", change))


def test_a_language_model_inside_a_larger_one(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank, prefix="llama_decoder.")
    tensors = {**load_file(tuned / "model.safetensors"), "adapter.fc1.weight": torch.ones(4, 4)}
    save_file(tensors, tuned / "model.safetensors", {"format": "pt"})
    with pytest.raises(AdapterError, match=r"say part=llama_decoder\."):
        planned(backbone, tuned)
    result = extracted(backbone, tuned, "part=llama_decoder.", "rank=3")
    assert result.residual() < 1e-5
    assert "1 tensors outside of `llama_decoder.…` stay" in (result.folder / "README.md").read_text()


def rewrite_config(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


ROTARY = {"rope_theta": 500.0, "rope_type": "default"}


def test_another_computation_is_listed_and_refused(backbone: Path, tmp_path: Path) -> None:
    tuned = rewrite_config(
        tuned_folder(backbone, tmp_path / "tuned", low_rank),
        rope_parameters=ROTARY,
        rms_norm_eps=0.1,
        hidden_act="gelu",
    )
    with pytest.raises(AdapterError, match=r"what is not extracted, 3 in all") as refusal:
        planned(backbone, tuned)
    assert "config.json: rope_parameters.rope_theta (500.0 in place of 10000.0)" in str(refusal.value)
    assert "config.json: hidden_act ('gelu' in place of 'silu')" in str(refusal.value)


def test_another_computation_that_is_left_out_is_said(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = rewrite_config(tuned_folder(backbone, tmp_path / "tuned", low_rank), rms_norm_eps=0.1)
    plan = planned(backbone, tuned, "leave_out=true", "rank=3")
    show_comparison(plan)
    line = "left out: config.json: rms_norm_eps (0.1 in place of 1e-06)"
    assert line in capsys.readouterr().out
    result = extract(plan)
    assert line in (result.folder / "README.md").read_text()
    table = pd.read_csv(result.folder / "extraction.csv").set_index("tensor")
    row = table.loc["config.json: rms_norm_eps"]
    assert row["remark"] == "0.1 in place of 1e-06" and row["residual"] == 1 and np.isnan(row["norm"])


def test_settings_that_change_no_answer_are_passed_over(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank)
    said = {"_name_or_path": "me/mine", "torch_dtype": "bfloat16", "use_cache": False, "architectures": ["LlamaModel"]}
    rewrite_config(tuned, **said, eos_token_id=[1, 3], max_position_embeddings=64, attention_dropout=0.1)
    config = json.loads((tuned / "config.json").read_text())
    for key in ("rms_norm_eps", "attention_bias", "rope_parameters"):  # which are the defaults
        del config[key]
    (tuned / "config.json").write_text(json.dumps({**config, "rope_theta": 10000.0, "rope_scaling": None}))
    assert not planned(backbone, tuned).all_left_out


def test_a_fine_tune_without_a_config_is_told(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank)
    (tuned / "config.json").unlink()
    with pytest.raises(AdapterError, match=r"config\.json \(absent\)"):
        planned(backbone, tuned)
    (tuned / "config.json").write_text("[]")
    with pytest.raises(AdapterError, match=r"config\.json is a list.*copy or download it again"):
        planned(backbone, tuned)


def test_of_a_larger_model_the_language_models_settings_are_compared(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank, prefix="llama_decoder.")
    inner = json.loads((tuned / "config.json").read_text())
    encoder = {"model_type": "esm", "hidden_act": "gelu", "rope_theta": 3.0}
    whole = {"model_type": "protein_and_text", "esm_config": encoder}
    (tuned / "config.json").write_text(json.dumps({**whole, "llama_config": inner}))
    assert not planned(backbone, tuned, "part=llama_decoder.").all_left_out
    (tuned / "config.json").write_text(json.dumps({**whole, "llama_config": {**inner, "hidden_act": "gelu"}}))
    with pytest.raises(AdapterError, match=r"config\.json: llama_config\.hidden_act \('gelu' in place of 'silu'\)"):
        planned(backbone, tuned, "part=llama_decoder.")
    (tuned / "config.json").write_text(json.dumps({**whole, "llm": "a hub id"}))
    with pytest.raises(AdapterError, match=r"config\.json \(says of no llama how it computes\)"):
        planned(backbone, tuned, "part=llama_decoder.")


def test_another_architecture_of_the_same_names_is_a_difference(backbone: Path, tmp_path: Path) -> None:
    tuned = rewrite_config(tuned_folder(backbone, tmp_path / "tuned", low_rank), model_type="mistral", sliding_window=8)
    changes = planned(backbone, tuned, "leave_out=true").settings_left_out
    assert {name: change.remark for name, change in changes.items()} == {
        "config.json: model_type": "'mistral' in place of 'llama'",
        "config.json: sliding_window": "8 in place of nothing",
    }


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "mixtral", "qwen3"])
def test_a_config_is_like_itself_in_every_family(kind: str, tmp_path: Path) -> None:
    folder = save_backbone(tmp_path / kind, kind)
    assert not compare_configs(read_config(str(folder)), folder, folder)


def test_settings_that_do_not_load_are_compared_as_they_are_written(backbone: Path, tmp_path: Path) -> None:
    tuned = rewrite_config(tuned_folder(backbone, tmp_path / "tuned", low_rank), rms_norm_eps="small")
    changes = compare_configs(read_config(str(backbone)), backbone, tuned)
    assert changes == {"config.json: rms_norm_eps": "'small' in place of 1e-06"}


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        ({"eps": 1}, {"eps": 1.0}, {}),
        (
            {"eps": 1, "act": "silu"},
            {"act": "gelu"},
            {"eps": "nothing in place of 1", "act": "'gelu' in place of 'silu'"},
        ),
        ({}, {"window": 4, "other": None}, {"window": "4 in place of nothing"}),
        (
            {"rope": {"theta": 1.0, "deep": {"x": 1}}},
            {"rope": {"deep": {"x": 2}, "theta": 1}},
            {"rope.deep.x": "2 in place of 1"},
        ),
        ({"text": {"dtype": "a", "use_cache": True}}, {"text": {"dtype": "b"}}, {}),
        ({"resid_pdrop": 0.1, "vocab_size": 5, "id2label": {"0": "a"}}, {"vocab_size": 6}, {}),
        ({"max_position_embeddings": 4}, {"max_position_embeddings": 8}, {}),
        (
            {"rope": {"rope_type": "dynamic"}, "max_position_embeddings": 4},
            {"rope": {"rope_type": "dynamic", "type": "dynamic"}, "max_position_embeddings": 8},
            {"max_position_embeddings": "8 in place of 4"},
        ),
        ({"rope_scaling": {"type": "linear"}}, {"rope_scaling": {"type": "linear"}}, {}),
    ],
)
def test_settings_that_differ(base: dict[str, Any], tuned: dict[str, Any], expected: dict[str, str]) -> None:
    assert differing_settings(base, tuned) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rank=0"], "rank=0: expected a number from 1"),
        (["targets=("], "is no regular expression"),
        (["dtype=int8"], "expected one of float32"),
        (["tuned=null"], "tuned is not set"),
        (["backbone=nowhere/at-all"], "is no folder: download it first"),
        (["targets=zz_proj"], "matches no linear layer"),
        (["part=nothing."], "holds no tensor whose name begins with 'nothing.'"),
    ],
)
def test_settings_that_cannot_be_are_refused(backbone: Path, tmp_path: Path, settings: list[str], message: str) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank)
    overrides = [word.replace("=(", '="("') for word in settings]
    with pytest.raises(BenchError, match=message.replace("(", r"\(")):
        planned(backbone, tuned, *overrides)


def test_the_backbone_itself_is_no_fine_tune(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="has the backbone's weights in every linear layer"):
        planned(backbone, tuned_folder(backbone, tmp_path / "tuned", lambda name, weight: weight))


def test_what_is_read_is_not_written_over(backbone: Path, tmp_path: Path) -> None:
    tuned = tuned_folder(backbone, tmp_path / "tuned", low_rank)
    with pytest.raises(ConfigError, match="would replace tuned="):
        planned(backbone, tuned, f"out={tuned}", "overwrite=true")


def test_values_that_are_no_numbers_are_named(backbone: Path, tmp_path: Path) -> None:
    def change(name: str, weight: Tensor) -> Tensor:
        return weight * torch.nan if "layers.1.mlp.up_proj" in name else weight

    with pytest.raises(AdapterError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN"):
        planned(backbone, tuned_folder(backbone, tmp_path / "tuned", change))


def test_quantised_weights_are_named(backbone: Path, tmp_path: Path) -> None:
    def change(name: str, weight: Tensor) -> Tensor:
        return weight.to(torch.int8) if "layers.0.mlp.up_proj" in name else low_rank(name, weight)

    with pytest.raises(AdapterError, match=r"quantised weights, model\.layers\.0\.mlp\.up_proj\.weight \(I8\)"):
        planned(backbone, tuned_folder(backbone, tmp_path / "tuned", change))


def moved_experts(which: str) -> Change:
    """A change of one direction in the layers of a mixture that have this in their names, of the first two experts."""

    def change(name: str, weight: Tensor) -> Tensor:
        if ".experts." not in name or which not in name:
            return weight
        update = torch.ones(weight.shape[-2], 1) @ torch.arange(1.0, weight.shape[-1] + 1)[None]
        if weight.ndim == 3:
            return weight + torch.stack([update * (expert < 2) for expert in range(len(weight))])
        return weight + update * any(f".experts.{expert}." in name for expert in (0, 1))

    return change


def test_an_adapter_of_a_mixture_has_all_of_its_experts(tmp_path: Path) -> None:
    """The third expert was never routed to: its part is zero, and the adapter is loaded again."""
    mixture = save_backbone(tmp_path / "mixture", "mixtral")
    tuned = tuned_folder(mixture, tmp_path / "tuned", moved_experts(""))
    plan = planned(mixture, tuned, "rank=2")
    experts = {module.split(".experts.")[1].split(".")[0] for module in plan.modules}
    assert not plan.left_out and experts == {"0", "1", "2"}
    assert extract(plan).residual() < 1e-5
    adapter = load_adapter(tmp_path / "out", "tuned")
    model = AutoModelForCausalLM.from_pretrained(mixture)
    tokens = torch.tensor([[3, 5, 7, 2]])
    expected = AutoModelForCausalLM.from_pretrained(tuned)(tokens).logits
    loaded = peft.PeftModel.from_pretrained(model, str(tmp_path / "out"))
    assert adapter.modules and torch.allclose(loaded(tokens).logits, expected, atol=1e-4)


def test_a_part_of_a_mixture_is_refused(tmp_path: Path) -> None:
    mixture = save_backbone(tmp_path / "mixture", "mixtral")
    tuned = tuned_folder(mixture, tmp_path / "tuned", moved_experts(""))
    with pytest.raises(AdapterError, match="leaves out .*widen targets"):
        planned(mixture, tuned, "rank=2", "targets=w1", "leave_out=true")
