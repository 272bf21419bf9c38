"""Adapters that name a layer otherwise than the backbone does, held against what PEFT makes of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import composed
from tests.standalone.oracle import merged_weights
from tests.standalone.tiny import command, save_backbone, tokenizer, write_probe
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, LlamaConfig, LlavaConfig, Qwen2_5_VLConfig
from transformers import AutoModelForImageTextToText as AnyWrapper

import esmerge.cli.common  # noqa: F401 (says which names a config may add)
from esmerge.core.errors import AdapterError, ConfigError
from esmerge.core.prompts import Example
from esmerge.experiment.standalone.plan import plan_merge
from esmerge.experiment.standalone.request import read_request
from esmerge.experiment.standalone.write import carry_out
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.model.scoring import score
from esmerge.specialists.families.custom.backbone import load_backbone
from esmerge.specialists.families.custom.source import LoadedBackbone

IDS = torch.tensor([[5, 40, 41, 42, 60, 61, 7]])
WEIGHTS = "adapter_model.safetensors"
SHAPES = {"q_proj": (16, 16), "v_proj": (8, 16), "down_proj": (16, 24), "w1": (24, 16), "w2": (16, 24), "w3": (24, 16)}
TEXT = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
EXPERTS = tuple(f"block_sparse_moe.experts.{e}.{w}" for e in range(3) for w in ("w1", "w2", "w3"))
Folders = dict[str, Path]


def write_adapter(folder: Path, layers: str, seed: int, parts: tuple[str, ...] = TEXT, **config: Any) -> Path:
    """An adapter of three decoder layers under ``layers``, with a file and a config as PEFT writes them."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for path in (f"{layers}.{layer}.{part}" for layer in range(3) for part in parts):
        height, width = SHAPES[path.rpartition(".")[2]]
        tensors[f"base_model.model.{path}.lora_A.weight"] = 0.3 * torch.randn(4, width, generator=generator)
        tensors[f"base_model.model.{path}.lora_B.weight"] = 0.3 * torch.randn(height, 4, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS)
    targets = sorted({part.rpartition(".")[2] for part in parts})
    plain = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps({**plain, **config}))
    return folder


def merged(backbone: Path, experts: Mapping[str, Path], out: Path, *more: str) -> Path:
    request = read_request(composed(*command(backbone, experts, out, None, *more), config="merge"))
    return carry_out(plan_merge(request)).folder


def model_of(folder: Path) -> Any:
    wrapper_only = AutoConfig.from_pretrained(folder).model_type in ("llava", "qwen2_5_vl")
    return (AnyWrapper if wrapper_only else AutoModelForCausalLM).from_pretrained(folder).eval()


def logits(backbone: Path, adapter: Path | None = None) -> Tensor:
    model = model_of(backbone)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, adapter).eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits


def averaged(experts: Mapping[str, Path], folder: Path) -> Path:
    """The plain mean of the factors, in the names of the first."""
    first, *_ = experts.values()
    shutil.copytree(first, folder)
    files = [load_file(path / WEIGHTS) for path in experts.values()]
    save_file({key: torch.stack([file[key] for file in files]).mean(0) for key in files[0]}, folder / WEIGHTS)
    return folder


def check(backbone: Path, experts: Folders, tmp_path: Path, expected: Tensor | None = None) -> None:
    """The merge and the whole model both answer as PEFT does with the averaged factors."""
    if expected is None:
        expected = logits(backbone, averaged(experts, tmp_path / "mean"))
    assert (expected - logits(backbone)).abs().max() > 0.05
    average = ("method=average", "merge_space=factors")
    adapter = merged(backbone, experts, tmp_path / "out", *average)
    torch.testing.assert_close(logits(backbone, adapter), expected, rtol=1e-4, atol=1e-4)
    baked = merged(backbone, experts, tmp_path / "baked", *average, "bake=true")
    torch.testing.assert_close(logits(baked), expected, rtol=1e-4, atol=1e-4)
    assert set(load_file(baked / "model.safetensors")) == set(load_file(backbone / "model.safetensors"))


def pair(tmp_path: Path, layers: str, parts: tuple[str, ...] = TEXT) -> Folders:
    return {name: write_adapter(tmp_path / name, layers, seed, parts) for seed, name in enumerate(("mol", "prot"))}


def wrapper(kind: str, folder: Path) -> Path:
    """A random wrapper with a vision tower, beside a tokenizer."""
    text = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "vocab_size": 330, "initializer_range": 0.2}
    if kind == "llava":
        vision = {"model_type": "clip_vision_model", "num_hidden_layers": 3, "image_size": 28, "patch_size": 14}
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
        config: Any = LlavaConfig(text_config=LlamaConfig(**text), vision_config={**vision, **sizes})
    else:
        rotary = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
        sizes = {"depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16}
        config = Qwen2_5_VLConfig(text_config={**text, "rope_parameters": rotary}, vision_config=sizes)
    torch.manual_seed(0)
    AnyWrapper.from_config(config).save_pretrained(folder)
    tokenizer("qwen2").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layers", ["language_model.model.layers", "model.language_model.layers"])
def test_names_of_a_wrapper_before_and_after_its_renaming(layers: str, tmp_path: Path) -> None:
    check(save_backbone(tmp_path / "backbone", "gemma3"), pair(tmp_path, layers), tmp_path)


def test_wrappers_that_are_no_causal_language_models(tmp_path: Path) -> None:
    check(wrapper("llava", tmp_path / "backbone"), pair(tmp_path, "language_model.model.layers"), tmp_path)


def test_old_names_that_peft_leaves_out_in_silence(tmp_path: Path) -> None:
    backbone = wrapper("qwen2_5_vl", tmp_path / "backbone")
    current = pair(tmp_path / "today", "model.language_model.layers")
    expected = logits(backbone, averaged(current, tmp_path / "mean"))
    check(backbone, pair(tmp_path / "old", "model.layers"), tmp_path, expected)


def test_adapters_of_the_text_model_on_the_wrapper_and_of_the_wrapper_on_the_text_model(tmp_path: Path) -> None:
    wrapper_folder = save_backbone(tmp_path / "whole", "gemma3")
    text = AutoModelForCausalLM.from_pretrained(wrapper_folder)
    text_model: Any = AutoModelForCausalLM.from_config(text.config.text_config)
    text_model.model.load_state_dict(text.model.language_model.state_dict())
    text_model.save_pretrained(tmp_path / "text")
    tokenizer("gemma").save_pretrained(tmp_path / "text")
    of_text, of_wrapper = pair(tmp_path / "a", "model.layers"), pair(tmp_path / "b", "model.language_model.layers")
    expected = logits(tmp_path / "text", averaged(of_text, tmp_path / "mean"))
    check(wrapper_folder, of_text, tmp_path / "1", expected)
    check(tmp_path / "text", of_wrapper, tmp_path / "2", expected)


def test_adapters_of_a_model_without_a_head(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone")
    headed = pair(tmp_path / "headed", "model.layers")
    expected = logits(backbone, averaged(headed, tmp_path / "mean"))
    check(backbone, pair(tmp_path / "headless", "layers"), tmp_path, expected)


def test_a_backbone_without_a_head_is_probed_but_has_no_answers(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "headed")
    AutoModel.from_pretrained(backbone).save_pretrained(tmp_path / "backbone")
    tokenizer("llama").save_pretrained(tmp_path / "backbone")
    experts = pair(tmp_path, "model.layers")
    probe = tmp_path / "probe.jsonl"
    probe.write_text('{"mol": "CCO", "prot": "MKT"}\n{"mol": "CC", "prot": "GAV"}\n')
    quick = [f"probe.file={probe}", "granularity.projections=8", "allow_other_base=true"]
    first, second = (
        load_file(merged(folder, experts, tmp_path / f"out-{folder.name}", *quick) / WEIGHTS)
        for folder in (backbone, tmp_path / "backbone")
    )
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    with pytest.raises(ConfigError, match=r"was saved without its head \(lm_head.weight\), so it has no answers"):
        merged(tmp_path / "backbone", experts, tmp_path / "no", *quick, "method=expert_merging")
    baked = merged(tmp_path / "backbone", experts, tmp_path / "baked", "method=average", "bake=true")
    assert set(load_file(baked / "model.safetensors")) == set(load_file(tmp_path / "backbone" / "model.safetensors"))


def test_a_checkpoint_that_lacks_weights_is_no_backbone(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone")
    tensors = load_file(backbone / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, backbone / "model.safetensors", metadata={"format": "pt"})
    probe = tmp_path / "probe.jsonl"
    probe.write_text('{"mol": "CCO", "prot": "MKT"}\n')
    with pytest.raises(ConfigError, match="lacks the weights model.layers.1.mlp.up_proj.weight: copy or download"):
        merged(backbone, pair(tmp_path, "model.layers"), tmp_path / "out", f"probe.file={probe}")


def test_a_vision_towers_layers_are_not_the_language_models(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone", "gemma3")
    experts = pair(tmp_path, "model.vision_tower.encoder.layers", ("self_attn.q_proj",))
    with pytest.raises(AdapterError, match="only modules of decoder layers .model.language_model.layers.* are merged"):
        merged(backbone, experts, tmp_path / "out", "method=average")


def test_two_names_of_one_layer(tmp_path: Path) -> None:
    experts = pair(tmp_path, "layers")
    tensors = load_file(experts["mol"] / WEIGHTS)
    doubled = {key.replace("model.layers", "model.model.layers"): value.clone() for key, value in tensors.items()}
    save_file({**tensors, **doubled}, experts["mol"] / WEIGHTS)
    with pytest.raises(AdapterError, match="'mol' adapts .* twice, under two names of one layer of the backbone"):
        merged(save_backbone(tmp_path / "backbone"), experts, tmp_path / "out", "method=average")


@pytest.mark.parametrize("block", ["block_sparse_moe", "mlp"])
def test_single_experts_of_a_mixture(block: str, tmp_path: Path) -> None:
    parts = ("self_attn.q_proj", *(part.replace("block_sparse_moe", block) for part in EXPERTS))
    backbone = save_backbone(tmp_path / "backbone", "mixtral")
    check(backbone, pair(tmp_path, "model.layers", parts), tmp_path)


def test_a_mixture_whose_checkpoint_stacks_its_experts(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "separate", "mixtral")
    stacked = tmp_path / "backbone"
    shutil.copytree(backbone, stacked)
    model = AutoModelForCausalLM.from_pretrained(backbone)
    save_file({key: weight.clone() for key, weight in model.state_dict().items()}, stacked / "model.safetensors")
    experts = pair(tmp_path, "model.layers", EXPERTS)
    expected = logits(backbone, averaged(experts, tmp_path / "mean"))
    baked = merged(stacked, experts, tmp_path / "baked", "method=average", "merge_space=factors", "bake=true",
                   "allow_other_base=true")  # fmt: skip
    torch.testing.assert_close(logits(baked), expected, rtol=1e-4, atol=1e-4)
    assert "model.layers.0.mlp.experts.gate_up_proj" in load_file(baked / "model.safetensors")


@pytest.mark.parametrize(("granularity", "space"), [("joint", "factors"), ("element", "delta"), ("layer", "delta")])
def test_a_mixtures_coefficients_are_those_of_the_formulas(granularity: str, space: str, tmp_path: Path) -> None:
    backbone, parts = save_backbone(tmp_path / "backbone", "mixtral"), ("self_attn.v_proj", *EXPERTS)
    names = tuple(part.replace("block_sparse_moe", "mlp") for part in parts)
    experts = pair(tmp_path, "model.layers", names)
    probe = write_probe(tmp_path / "probe.jsonl", samples=3)
    quick = [f"probe.file={probe}", "granularity.projections=8", f"granularity={granularity}", f"merge_space={space}"]
    adapter = merged(backbone, experts, tmp_path / "out", *quick, "probe.batch_size=2")
    model, weights, coefficients = merged_weights(backbone, experts, probe, granularity, space, 8)
    with torch.no_grad():
        expected = torch.func.functional_call(model.model, model.shaped(weights), (IDS,)).logits
    torch.testing.assert_close(logits(backbone, adapter), expected, rtol=2e-3, atol=2e-3)
    stored = load_file(adapter / "coefficients.safetensors")
    for key, shares in coefficients.items() if granularity != "layer" else ():
        for name, share in zip(experts, shares, strict=True):
            np.testing.assert_allclose(stored[f"{name}.base_model.model.{key}"].numpy(), share, atol=2e-3)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (EXPERTS[3:], "a part of the mixture .* and lacks .*mlp.experts.0.w1"),
        (EXPERTS[::3], "a part of the mixture .* lacks .*w3.* w1 with w3"),
    ],
)
def test_a_part_of_a_mixture_is_refused(parts: tuple[str, ...], message: str, tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path / "backbone", "mixtral")
    with pytest.raises(AdapterError, match=message):
        merged(backbone, pair(tmp_path, "model.layers", parts), tmp_path / "out", "method=average")


def test_ranks_that_differ_within_a_mixture(tmp_path: Path) -> None:
    backbone, experts = save_backbone(tmp_path / "backbone", "mixtral"), pair(tmp_path, "model.layers", EXPERTS)
    for path in experts.values():
        config = json.loads((path / "adapter_config.json").read_text())
        (path / "adapter_config.json").write_text(json.dumps({**config, "alpha_pattern": {"w2": 8}}))
    with pytest.raises(AdapterError, match=r"several ranks or scales within the mixture .*\[\(4, 1.5\), \(4, 2.0\)\]"):
        merged(backbone, experts, tmp_path / "out", "method=average")


@pytest.mark.parametrize("kind", ["gpt2", "gemma3", "mixtral", "llava", "qwen2_5_vl"])
def test_answers_are_scored_as_the_model_itself_would(kind: str, tmp_path: Path) -> None:
    make = wrapper if kind in ("llava", "qwen2_5_vl") else lambda kind, folder: save_backbone(folder, kind)
    folder = make(kind, tmp_path / "backbone")
    adapted = [f"model.layers.{layer}.mlp.experts.0.w1" for layer in range(3)] if kind == "mixtral" else []
    backbone = load_backbone(LoadedBackbone(str(folder)), "auto", "cpu", adapted=adapted)
    labels = ("GFAP", "no ALB TTR", "no")
    questions = [
        Example(str(i), (text, "? "), labels, 0) for i, text in enumerate(("CCO CCO CCO", "MKTAYIAKQR", "CCO KRT5"))
    ]
    model, words = model_of(folder), backbone.tokenizer

    def plain(prompt: tuple[str, ...], label: str) -> float:
        start = [] if words.bos_token_id is None else [words.bos_token_id]
        prefix, answer = (
            [i for part in parts for i in words(part, add_special_tokens=False)["input_ids"]]
            for parts in (prompt, (label,))
        )
        ids = torch.tensor([[*start, *prefix, *answer]])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
        return float(sum(logprobs[-len(answer) + k, token] for k, token in enumerate(answer)))

    loglikelihoods = score(PromptEncoder(backbone, {}), questions, 2).loglik
    expected = [[plain(example.prompt, label) for label in labels] for example in questions]
    torch.testing.assert_close(loglikelihoods, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["fisher", "regmean", "aim", "expert_merging"])
def test_merges_that_measure_know_which_positions_an_expert_was_given(method: str, tmp_path: Path) -> None:
    backbone, experts = save_backbone(tmp_path / "backbone", "mixtral"), pair(tmp_path, "model.layers", EXPERTS)
    probe = write_probe(tmp_path / "probe.jsonl")
    quick = ["method.alignment.steps=2"] if method == "expert_merging" else []
    adapter = merged(backbone, experts, tmp_path / "out", f"probe.file={probe}", f"method={method}", *quick)
    assert (logits(backbone, adapter) - logits(backbone)).abs().max() > 0.01
