"""The plan: what a prompt is made of on tokenizers of several families, and what a dry run says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from tests.standalone.conftest import World
from tests.standalone.oracle import prompts
from tests.standalone.tiny import (
    CONFIGS,
    PAIR,
    TEXTS,
    command,
    save_backbone,
    train_adapter,
    train_experts,
    write_probe,
)

import esmerge.cli.merge
from esmerge.adapters.peft_folder import open_adapter
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.experiment.standalone.terminal import show_plan, show_result
from esmerge.experiment.standalone.write import carry_out
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import PromptEncoder
from esmerge.probe.variants.text import TextProbe, text
from esmerge.specialists.api import Context
from esmerge.specialists.families.custom.backbone import load_tokenizer, skeleton
from esmerge.specialists.families.custom.family import assembled
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.storage.cache import Cache

Planned = Callable[..., MergePlan]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_prompts_are_made_of_pieces_tokenised_one_by_one(kind: str, tmp_path: Path) -> None:
    backbone, probe = save_backbone(tmp_path / "backbone", kind), write_probe(tmp_path / "probe.jsonl")
    settings = CustomSettings(str(backbone), experts={name: "unread" for name in PAIR})
    hollow: Any = skeleton(str(backbone))
    language_model = Backbone(hollow, load_tokenizer(str(backbone)), str(backbone), "")
    experts = train_experts(backbone, tmp_path)
    adapters = {name: open_adapter(path, name) for name, path in experts.items()}
    specialists = assembled(settings, language_model, adapters, Context(0, Cache(tmp_path)))
    encoded = PromptEncoder(language_model, {}).encode(text(TextProbe(str(probe)), specialists, 0))
    expected = prompts(backbone, probe, list(PAIR))
    assert len(encoded) == len(expected) == 4
    for prompt, (ids, spans) in zip(encoded, expected, strict=True):
        assert prompt.ids == ids
        assert {span.modality: (span.start, span.stop) for span in prompt.spans} == spans
        assert (ids[0] == 2) == (not kind.startswith("qwen")), "a start token where the tokenizer has one, and only one"
        assert ids.count(2) <= 1


def test_what_a_plan_counts(plan: Planned, llama: World) -> None:
    merge_plan = plan()
    lengths = [len(ids) for ids, _ in prompts(llama.backbone, llama.probe, list(PAIR))]
    assert (merge_plan.samples, merge_plan.tokens, merge_plan.depth) == (4, sum(lengths), 3)
    numbers = 3 * 4 * ((16 + 16) + (16 + 8) + (24 + 16))  # three layers of rank 4: q, v and down projections
    assert merge_plan.adapter_bytes() == {"mol": 4 * numbers, "prot": 4 * numbers}
    hollow: Any = skeleton(str(llama.backbone))
    assert (
        merge_plan.weights == sum(parameter.numel() for parameter in hollow.parameters())
        and merge_plan.weight_bytes == 4
    )
    assert merge_plan.memory() > merge_plan.weights * 4 and merge_plan.seconds() > 0
    assert plan("compute.dtype=bfloat16").weight_bytes == 2
    assert plan("method=average").samples == 0 and plan("method=average").memory() < merge_plan.memory()
    assert plan("bake=true").least_output() == merge_plan.weights * 4 > merge_plan.least_output() == 4 * numbers


def test_a_plan_counts_what_the_method_measures(plan: Planned) -> None:
    """Span inputs: at most ``limit`` rows of 16 or 24 channels in each of three layers, for two experts."""
    few, many = (plan("method=span_regression", f"method.spans.limit={limit}") for limit in (2, "null"))
    assert few.measured_bytes() == 2 * 3 * 4 * (2 * 16 + 2 * 16 + 2 * 24)
    assert many.measured_bytes() == 2 * 3 * 4 * (16 * 16 + 16 * 16 + 24 * 24)  # as many rows as channels, at most
    assert few.passes() == 2 and plan().passes() == 7  # each expert once; the backbone, and each expert with gradients
    fisher, gram = plan("method=fisher"), plan("method=regmean")
    assert (fisher.passes(), fisher.measured_bytes()) == (6, 0) and gram.measured_bytes() == many.measured_bytes()
    assert plan("method=average").passes() == 0
    assert plan("method=nsc").is_fitted() and not few.is_fitted()


def test_a_dry_run_says_everything_and_writes_nothing(
    plan: Planned, llama: World, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    arguments = command(llama.backbone, llama.experts, tmp_path / "out", llama.probe, "dry_run=true")
    monkeypatch.setattr("sys.argv", ["merge", *arguments])
    monkeypatch.setattr("esmerge.specialists.families.custom.family.load_backbone", None)
    esmerge.cli.merge.main()
    output = capsys.readouterr().out
    for part in ("mol", "prot", "18", "float32", "granularity joint", "4 samples", "of memory", "nothing is written"):
        assert part in output
    assert list(tmp_path.iterdir()) == []


def test_the_screen_names_what_is_missing(plan: Planned, llama: World, tmp_path: Path) -> None:
    part = train_adapter(llama.backbone, tmp_path / "part", TEXTS["prot"], 1, target_modules=["q_proj"])
    screen = Console(record=True, width=200)
    show_plan(plan("allow_partial=true", experts={**llama.experts, "prot": part}), screen)
    assert "prot lacks base_model.model.model.layers.0.mlp.down_proj" in screen.export_text()


def test_an_adapter_that_was_never_trained_is_pointed_out(plan: Planned, llama: World, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    shutil.copytree(llama.experts["prot"], fresh)
    tensors = load_file(fresh / "adapter_model.safetensors")
    zeroed = {key: torch.zeros_like(tensor) if "lora_B" in key else tensor for key, tensor in tensors.items()}
    save_file(zeroed, fresh / "adapter_model.safetensors")
    ready, screen = (
        plan("method=average", "probe.file=null", experts={**llama.experts, "prot": fresh}),
        Console(record=True, width=200),
    )
    show_result(ready, carry_out(ready), screen)
    text = screen.export_text()
    assert "prot: its update is zero everywhere, as before the first training step" in text and "mol: its" not in text
