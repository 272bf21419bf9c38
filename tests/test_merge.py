"""The front door for adapters of one's own, against the paper's formulas computed by other means."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from tests.standalone.oracle import merged_weights
from tests.standalone.tiny import CONFIGS, TEXTS, command, save_backbone, train_experts, write_probe
from transformers import AutoModelForCausalLM

import esmerge.cli.merge

ROOT = Path(__file__).resolve().parents[1]
PROJECTIONS = 32
QUICK = [f"granularity.projections={PROJECTIONS}", "probe.samples=3"]
CASES = [(g, s) for g in ("layer", "element", "joint") for s in ("factors", "delta")]
Run = Callable[..., None]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The front door in this process, since starting another one takes seconds."""

    def called(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["merge", *arguments])
        esmerge.cli.merge.main()

    return called


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, Path], Path]]:
    """Backbone, three experts and probe of a family, made once."""
    cache: dict[str, tuple[Path, dict[str, Path], Path]] = {}

    def world(kind: str) -> tuple[Path, dict[str, Path], Path]:
        if kind not in cache:
            root, names = tmp_path_factory.mktemp(kind), list(TEXTS)
            backbone = save_backbone(root / "backbone", kind)
            cache[kind] = backbone, train_experts(backbone, root, names), write_probe(root / "probe.jsonl", names, 3)
        return cache[kind]

    return world


@pytest.mark.parametrize(
    ("kind", "granularity", "space"),
    [
        *[(kind, *case) for kind in ("llama", "qwen2", "gemma") for case in CASES],
        *[(kind, *case) for kind in ("gpt2", "gemma3") for case in (("joint", "factors"), ("element", "delta"))],
    ],
)
def test_merged_logits_are_those_of_the_formulas(
    kind: str, granularity: str, space: str, worlds: Callable, run: Run, tmp_path: Path
) -> None:
    backbone, experts, probe = worlds(kind)
    overrides = (f"granularity={granularity}", f"merge_space={space}")
    run(*command(backbone, experts, tmp_path / "out", probe, *QUICK, *overrides))
    model, weights, expected_shares = merged_weights(backbone, experts, probe, granularity, space, PROJECTIONS)
    ids = torch.tensor([[5, 40, 41, 42, 60, 61, 7]])
    merged = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(backbone), tmp_path / "out").eval()
    with torch.no_grad():
        expected = torch.func.functional_call(model.model, model.shaped(weights), (ids,)).logits
        torch.testing.assert_close(merged(ids).logits, expected, rtol=2e-3, atol=2e-3)
        assert (merged(ids).logits - model.model(ids).logits).abs().max() > 0.05, "the merge changes what is said"
    stored = load_file(tmp_path / "out" / "coefficients.safetensors")
    names = {f"{name}.layer" for name in experts}
    if granularity != "layer":
        names |= {f"{name}.base_model.model.{key}" for name in experts for key in expected_shares}
        for key, shares in expected_shares.items():
            for name, share in zip(experts, shares, strict=True):
                coefficients = stored[f"{name}.base_model.model.{key}"].numpy()
                np.testing.assert_allclose(coefficients, share, atol=2e-3)
    assert set(stored) == names


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_layers_are_found_whatever_the_family(kind: str, worlds: Callable, run: Run, tmp_path: Path) -> None:
    backbone, experts, probe = worlds(kind)
    run(*command(backbone, experts, tmp_path / "out", probe, *QUICK))
    stored = load_file(tmp_path / "out" / "coefficients.safetensors")
    total = torch.stack([stored[f"{name}.layer"] for name in experts]).sum(0)
    torch.testing.assert_close(total, torch.ones(3))
    model = AutoModelForCausalLM.from_pretrained(backbone)
    model.load_adapter(str(tmp_path / "out"))
    merged = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert set(merged) == set(load_file(experts["mol"] / "adapter_model.safetensors"))


def test_a_stranger_in_another_folder_merges_with_one_command(worlds: Callable, tmp_path: Path) -> None:
    backbone, experts, probe = worlds("llama")
    script = [sys.executable, "-c", "from esmerge.cli.main import main; main()"]  # as esmerge in the path
    arguments = [*script, "merge", *command(backbone, experts, Path("merged"), probe, *QUICK)]
    process = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert process.returncode == 0, process.stderr
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "README.md",
        "coefficients.safetensors",
        "coefficients.png",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["merged"], "nothing but what was asked for"
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "\nesmerge merge " in card and "SHA-256" in card and "--max-lora-rank 8" in card and "| prot |" in card
    repeat = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert repeat.returncode == 1 and "error: out=merged exists" in repeat.stderr and "overwrite=true" in repeat.stderr
