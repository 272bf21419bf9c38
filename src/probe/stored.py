"""Signals on disk: computed once per team, probe and space, as safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from src.coefficients.signals import Signals


def save_signals(signals: Signals, folder: Path) -> None:
    """Write signals to ``<folder>/signals.safetensors`` and their names to ``signals.json``."""
    tensors = {f"backbone|{modality}": value for modality, value in signals.backbone.items()}
    for expert, columns in signals.responses.items():
        tensors.update({f"response|{expert}|{modality}": value for modality, value in columns.items()})
    for expert, scores in signals.scores.items():
        tensors.update({f"score|{expert}|{name}": value for name, value in scores.items()})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "signals.safetensors")
    names = {"experts": signals.experts, "modalities": signals.modalities, "own": signals.own}
    (folder / "signals.json").write_text(json.dumps(names))


def load_signals(folder: Path) -> Signals:
    """Read what ``save_signals`` wrote."""
    names = json.loads((folder / "signals.json").read_text())
    tensors = load_file(folder / "signals.safetensors")
    responses: dict[str, dict] = {expert: {} for expert in names["experts"]}
    scores: dict[str, dict] = {expert: {} for expert in names["experts"]}
    backbone = {}
    for key, tensor in tensors.items():
        kind, *rest = key.split("|")
        if kind == "backbone":
            backbone[rest[0]] = tensor
        else:
            (responses if kind == "response" else scores)[rest[0]][rest[1]] = tensor
    return Signals(
        tuple(names["experts"]), tuple(names["modalities"]), tuple(names["own"]), backbone, responses, scores
    )
