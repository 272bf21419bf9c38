"""Backbones in 8 and 4 bits, as bitsandbytes holds them, from the config to scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tests.front_door import run_sweep
from tests.specialists.tiny_language_model import write_tables
from tests.standalone.tiny import save_backbone, train_experts, write_probe

from esmerge.model.attach import detach, init_lora
from esmerge.model.backbone import Backbone
from esmerge.specialists.families.custom.backbone import load_backbone
from esmerge.specialists.families.custom.source import LoadedBackbone

bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install '.[quantise]'")
pytestmark = pytest.mark.slow

WIDTHS = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
FURTHEST = {8: 0.05, 4: 0.4}  # log-odds from those of the plain model, as a share of their norm


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("quantised") / "backbone", initializer_range=0.05, **WIDTHS)


def logits_and_gradients(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a text, first without gradients as in a sweep, then with those of a new adapter, flattened."""
    embeds = backbone.embed(torch.tensor([[2, 7, 30, 11, 5, 90]]))
    with torch.no_grad():
        logits = backbone.model(inputs_embeds=embeds).logits.float()
    parameters = init_lora(backbone.model, "trained", 2, 4.0, ["q_proj", "down_proj"], 0)
    backbone.model(inputs_embeds=embeds).logits.float().square().mean().backward()
    gradients = [parameter.grad for parameter in parameters]
    detach(backbone.model)
    assert all(gradient is not None for gradient in gradients)
    return logits, torch.cat([gradient.flatten().float() for gradient in gradients if gradient is not None])


def test_four_bits_are_the_model_of_the_rounded_weights(backbone: Path) -> None:
    plain, quantised = (
        load_backbone(LoadedBackbone(str(backbone), quantise=bits), "float32", "cpu") for bits in (None, 4)
    )
    rounded = {
        name: module
        for name, module in quantised.model.named_modules()
        if isinstance(module, bitsandbytes.nn.Linear4bit)
    }
    assert len(rounded) == 3 * 7
    with torch.no_grad():
        for name, module in rounded.items():
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.model.get_submodule(name).weight.copy_(weight)
    (expected, expected_gradients), (logits, gradients) = (logits_and_gradients(body) for body in (plain, quantised))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-3, atol=1e-7)


def test_eight_bits_answer_nearly_alike(backbone: Path) -> None:
    plain, quantised = (
        load_backbone(LoadedBackbone(str(backbone), quantise=bits), "float32", "cpu") for bits in (None, 8)
    )
    (expected, expected_gradients), (logits, gradients) = (logits_and_gradients(body) for body in (plain, quantised))
    assert 0 < (logits - expected).norm() / expected.norm() < 0.05
    assert torch.cosine_similarity(gradients, expected_gradients, dim=0) > 0.98


@pytest.mark.parametrize("bits", [8, 4])
def test_a_sweep_on_a_quantised_backbone(
    backbone: Path, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = train_experts(backbone, tmp_path)
    write_tables(tmp_path / "data")
    probe = write_probe(tmp_path / "probe.jsonl")
    words = [
        *("-m", "specialists=custom", "granularity=joint", "references=[base,expert,finetuned,average,average@delta]"),
        f"specialists.experts.mol={{path: {experts['mol']}, modality: molecule}}",
        f"specialists.experts.prot={experts['prot']}",
        *("probe=text", f"probe.file={probe}", "granularity.projections=8", "specialists.finetuning.steps=2"),
        *("benchmark=human", f"benchmark.root={tmp_path / 'data'}", "tracking=disabled", "compute.threads=1"),
        *("compute.resamples=10", f"cache={tmp_path / 'cache'}"),
    ]
    quantised = f"specialists.backbone={{path: {backbone}, quantise: {bits}}}"
    for name, backbone_words in (("plain", f"specialists.backbone={backbone}"), ("held", quantised)):
        assert not run_sweep(monkeypatch, *words, backbone_words, f"hydra.sweep.dir={tmp_path / name}")
    results = pd.read_csv(tmp_path / "held" / "results.csv")
    assert set(results["method"]) == {"base", "expert:mol", "expert:prot", "finetuned", "average", "es"}
    coefficients, expected = (
        load_file(_run(tmp_path / name, "es-") / "coefficients.safetensors") for name in ("held", "plain")
    )
    shares = {key: (coefficients[key], expected[key]) for key in coefficients if key.endswith(".layer")}
    assert shares and all((a - b).abs().max() < 0.1 for a, b in shares.values())
    for start in ("base", "average-delta", "es-"):
        margins, reference = (_margins(_run(tmp_path / name, start)) for name in ("held", "plain"))
        assert 0 < np.linalg.norm(margins - reference) / np.linalg.norm(reference) < FURTHEST[bits], start


def _margins(run: Path) -> np.ndarray:
    """Log-likelihood of one label less that of the other, question by question."""
    frame = pd.read_csv(run / "predictions" / "human.csv")
    first, second = (name for name in frame if name.startswith("score:"))
    return (frame[first] - frame[second]).to_numpy()


def _run(folder: Path, start: str) -> Path:
    (path,) = folder.glob(f"{start}*")
    return path
