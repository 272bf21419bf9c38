"""Ranks and scales by pattern, rsLoRA, partial experts, half precision: what PEFT makes of them is what is merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.standalone.conftest import World
from tests.standalone.tiny import PAIR, TEXTS, train_adapter
from torch import Tensor
from transformers import AutoModelForCausalLM

from esmerge.experiment.standalone.plan import MergePlan
from esmerge.experiment.standalone.write import carry_out

IDS = torch.tensor([[5, 40, 41, 42, 60, 61, 7]])
PATTERNS = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32, "layers.1.mlp.down_proj": 3}}
Planned = Callable[..., MergePlan]


def factors(backbone: Path, adapter: Path) -> dict[str, tuple[Tensor, Tensor, float]]:
    """Path -> A, B and scale as PEFT attaches them."""
    model: Any = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), adapter)
    layers = {name: module for name, module in model.base_model.model.named_modules() if hasattr(module, "lora_A")}
    return {
        name: (layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data, layer.scaling["default"])
        for name, layer in layers.items()
    }


def logits(backbone: Path, updates: Mapping[str, Tensor] | Path) -> Tensor:
    """Of the backbone with updates added to its weights, or with an adapter by PEFT."""
    model: Any = AutoModelForCausalLM.from_pretrained(backbone).eval()
    with torch.no_grad():
        if isinstance(updates, Path):
            return peft.PeftModel.from_pretrained(model, updates).eval()(IDS).logits
        for path, update in updates.items():
            model.get_parameter(f"{path}.weight").add_(update)
        return model(IDS).logits


def trained(llama: World, root: Path, **changes: Any) -> dict[str, Path]:
    return {name: train_adapter(llama.backbone, root / name, TEXTS[name], 7, **changes) for name in PAIR}


def test_patterns_of_ranks_and_alphas(plan: Planned, llama: World, tmp_path: Path) -> None:
    experts = trained(llama, tmp_path, **PATTERNS)
    (first, second) = (factors(llama.backbone, path) for path in experts.values())
    assert len({scale for *_, scale in first.values()}) > 2, "several scales in one adapter"
    carry_out(plan("method=average", experts=experts))
    mean = {path: scale * (b + second[path][1]) @ (a + second[path][0]) / 4 for path, (a, b, scale) in first.items()}
    torch.testing.assert_close(logits(llama.backbone, tmp_path / "out"), logits(llama.backbone, mean))
    assert {scale for *_, scale in factors(llama.backbone, tmp_path / "out").values()} == {
        next(iter(factors(llama.backbone, tmp_path / "out").values()))[2]
    }, "one scale, for loaders that read no patterns"
    assert "ranks: 2 (3 modules), 4 (6 modules)" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_rslora_beside_plain(space: str, plan: Planned, llama: World, tmp_path: Path) -> None:
    stable = train_adapter(llama.backbone, tmp_path / "stable", TEXTS["prot"], 3, use_rslora=True)
    experts = {"mol": llama.experts["mol"], "prot": stable}
    folded = ["method.fold_scales=true"] if space == "factors" else []
    carry_out(plan("method=average", f"merge_space={space}", *folded, experts=experts))
    first, second = (factors(llama.backbone, path) for path in experts.values())
    expected = {}
    for path, (a, b, scale) in first.items():
        a2, b2, scale2 = second[path]
        assert scale2 == 2 * scale  # 8 / sqrt(4) beside 8 / 4
        mean = (scale * b @ a + scale2 * b2 @ a2) / 2
        expected[path] = mean if space == "delta" else (scale * b + scale2 * b2) @ (a + a2) / 4
    torch.testing.assert_close(
        logits(llama.backbone, tmp_path / "out"), logits(llama.backbone, expected), rtol=1e-4, atol=1e-4
    )


def test_ranks_that_differ_between_experts_in_delta_space(plan: Planned, llama: World, tmp_path: Path) -> None:
    small = train_adapter(llama.backbone, tmp_path / "small", TEXTS["prot"], 3, r=2, lora_alpha=4)
    experts = {"mol": llama.experts["mol"], "prot": small}
    carry_out(plan("granularity=layer", "merge_space=delta", "granularity.projections=8", experts=experts))
    merged = factors(llama.backbone, tmp_path / "out")
    assert {a.shape[0] for a, *_ in merged.values()} == {6}, "the sum of the ranks: nothing is lost"
    assert "--max-lora-rank 8" in (tmp_path / "out" / "README.md").read_text()


def test_an_expert_that_lacks_modules_in_delta_space(plan: Planned, llama: World, tmp_path: Path) -> None:
    part = train_adapter(llama.backbone, tmp_path / "part", TEXTS["prot"], 1, target_modules=["q_proj"])
    experts = {"mol": llama.experts["mol"], "prot": part}
    carry_out(plan("method=average", "merge_space=delta", "allow_partial=true", experts=experts))
    first, second = (factors(llama.backbone, path) for path in experts.values())
    expected = {}
    for path, (a, b, scale) in first.items():
        a2, b2, scale2 = second.get(path, (torch.zeros(1, a.shape[1]), torch.zeros(len(b), 1), 0.0))
        expected[path] = (scale * b @ a + scale2 * b2 @ a2) / 2
    torch.testing.assert_close(
        logits(llama.backbone, tmp_path / "out"), logits(llama.backbone, expected), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_backbone_in_half_precision(dtype: str, plan: Planned, llama: World, tmp_path: Path) -> None:
    carry_out(plan(f"compute.dtype={dtype}", "granularity.projections=8", "probe.samples=2"))
    assert all(torch.isfinite(a).all() for a, *_ in factors(llama.backbone, tmp_path / "out").values())
