"""From a probe's signals to merging coefficients at the chosen granularity."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from src.coefficients.element import element_coefficients
from src.coefficients.joint import joint_coefficients
from src.coefficients.layer import layer_coefficients, layer_distances
from src.coefficients.signals import Coefficients, Granularity, Signals
from src.errors import ConfigError, InputError
from src.specialists.lora import layer_of

GRANULARITIES = ("layer", "element", "joint")
SCORES = ("absolute", "squared")


def coefficients(
    signals: Signals, granularity: Granularity, shapes: Mapping[str, tuple[int, ...]], seed: int
) -> Coefficients:
    """Coefficients of every expert for every tensor that is to be merged.

    Args:
        signals: what the probe left behind.
        granularity: ``layer`` (alpha), ``element`` (beta) or ``joint`` (lambda), and the constants of the formulas.
        shapes: name -> shape of each tensor to be merged: factors in factor space, dense updates in delta space.
        seed: of the random directions.

    Raises:
        ConfigError: an unknown granularity, or a constant out of range.
        InputError: scores or layers are missing, or do not fit the tensors.
    """
    check_granularity(granularity)
    depth = 1 + max(layer_of(name) for name in shapes)
    if granularity.name == "element":
        alpha = torch.full((len(signals.experts), depth), 1 / len(signals.experts), dtype=torch.float64)
    else:
        alpha = _layers(signals, granularity, depth, seed)
    betas = {} if granularity.name == "layer" else _elements(signals, granularity, shapes)
    if granularity.name == "joint":
        betas = {name: joint_coefficients(alpha[:, layer_of(name)], beta) for name, beta in betas.items()}
    return Coefficients(
        layer=dict(zip(signals.experts, alpha.float(), strict=True)),
        elements={expert: {name: beta[i] for name, beta in betas.items()} for i, expert in enumerate(signals.experts)}
        if betas
        else {},
    )


def check_granularity(granularity: Granularity) -> None:
    """Raise ``ConfigError`` if the name or a constant of the granularity is not allowed."""
    if granularity.name not in GRANULARITIES:
        raise ConfigError(f"unknown granularity.name {granularity.name!r}: expected one of {', '.join(GRANULARITIES)}")
    for field in ("temperature", "tau", "projections", "power"):
        value = getattr(granularity, field)
        if not value > 0:
            raise ConfigError(f"granularity.{field}={value} must be greater than 0")
    if granularity.score not in SCORES:
        raise ConfigError(f"granularity.score={granularity.score!r}: expected one of {', '.join(SCORES)}")


def _layers(signals: Signals, granularity: Granularity, depth: int, seed: int) -> Tensor:
    distances = layer_distances(signals, granularity, seed)
    if distances.shape[-1] < depth:
        raise InputError(
            f"the probe measured {distances.shape[-1]} layers, but the adapters reach layer {depth - 1}: "
            "were they probed on another backbone?"
        )
    return layer_coefficients(distances, signals.own, granularity.cross_weight, granularity.temperature)


def _elements(signals: Signals, granularity: Granularity, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    _check_scores(signals, shapes)
    return {
        name: element_coefficients(
            torch.stack([signals.scores[expert][name] for expert in signals.experts]), granularity.tau
        )
        for name in shapes
    }


def _check_scores(signals: Signals, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wrong = []
    for expert in signals.experts:
        scores = signals.scores.get(expert, {})
        for name, shape in shapes.items():
            if name not in scores:
                wrong.append(f"{expert}: {name} is missing")
            elif tuple(scores[name].shape) != tuple(shape):
                wrong.append(f"{expert}: {name} has shape {tuple(scores[name].shape)}, expected {tuple(shape)}")
            elif not torch.isfinite(scores[name]).all():
                wrong.append(f"{expert}: {name} holds NaN or infinite values")
    if wrong:
        listed = "\n  ".join(wrong)
        raise InputError(f"element-wise scores do not cover the adapters; probe these experts again:\n  {listed}")
