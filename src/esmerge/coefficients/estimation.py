"""From a probe's signals to merging coefficients at the chosen granularity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from esmerge.coefficients import formulas
from esmerge.coefficients.distances import Distances
from esmerge.coefficients.types import Coefficients, ESConfig, LayerDistances, Signals
from esmerge.coefficients.uncertainty import (
    AUTO,
    alpha_from_distances,
    direction_errors,
    measured_distances,
    probe_errors,
)
from esmerge.core.devices import CPU, moved
from esmerge.core.errors import ConfigError, InputError, NumberError
from esmerge.core.finite import all_finite, not_finite, number_format
from esmerge.core.names import layer_of

GRANULARITIES = ("layer", "element", "joint")
SCORES = ("absolute", "squared")


def coefficients(
    signals: Signals,
    config: ESConfig,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    distances: Distances | None = None,
    device: torch.device = CPU,
) -> Coefficients:
    """Coefficients of every expert for every tensor that is to be merged.

    Args:
        signals: what the probe left behind.
        config: ``layer`` (alpha), ``element`` (beta) or ``joint`` (lambda), and the constants of the formulas.
        shapes: name -> shape of each tensor to be merged: factors in factor space, dense updates in delta space.
        seed: of the random directions.
        distances: of the experts' responses from the backbone's, if they are known.
        device: where they are computed; element-wise ones stay there, layer-wise ones are few and in main memory.

    Raises:
        ConfigError: an unknown granularity, or a constant out of range.
        InputError: scores or layers are missing, or do not fit the tensors.
        NumberError: a coefficient is NaN or infinite.
    """
    check_granularity(config)
    depth = 1 + max(layer_of(name) for name in shapes)
    errors: dict[str, Tensor] = {}
    measured: LayerDistances | None = None
    if config.name == "element":
        alpha = torch.full((len(signals.experts), depth), 1 / len(signals.experts), dtype=torch.float64)
    else:
        distances = distances or measured_distances(signals, config, seed, device=device)
        alpha, errors = _alpha(signals, config, depth, distances)
        measured = LayerDistances(signals.experts, signals.modalities, signals.own, distances.values)
    elements = {} if config.name == "layer" else _beta(signals, config, shapes, device)
    if config.name == "joint":
        rows = moved(alpha, device)
        elements = {name: formulas.joint_coefficients(rows[:, layer_of(name)], b) for name, b in elements.items()}
    _check_numbers({"layer": alpha, **elements}, config)
    return replace(_named(signals.experts, alpha, elements, errors), distances=measured)


def check_granularity(config: ESConfig) -> None:
    """Raise ``ConfigError`` if the name or a constant of the granularity is not allowed."""
    if config.name not in GRANULARITIES:
        raise ConfigError(f"unknown granularity.name {config.name!r}: expected one of {', '.join(GRANULARITIES)}")
    if config.projections != AUTO and not str(config.projections).isdigit():
        raise ConfigError(f"granularity.projections={config.projections!r}: expected an integer or {AUTO}")
    if config.resamples < 0:
        raise ConfigError(f"granularity.resamples={config.resamples}: expected 0 or more")
    positive = {
        "temperature": config.temperature,
        "tau": config.tau,
        "power": config.power,
        "tolerance": config.tolerance,
    }
    if config.projections != AUTO:
        positive["projections"] = int(config.projections)
    for field, value in positive.items():
        if not value > 0:
            raise ConfigError(f"granularity.{field}={value} must be greater than 0")
    if config.score not in SCORES:
        raise ConfigError(f"granularity.score={config.score!r}: expected one of {', '.join(SCORES)}")


def _alpha(signals: Signals, config: ESConfig, depth: int, distances: Distances) -> tuple[Tensor, dict[str, Tensor]]:
    """Layer-wise coefficients, (N, L), and their standard errors."""
    values = distances.values
    if values.shape[-1] < depth:
        raise InputError(
            f"the probe measured {values.shape[-1]} layers, but the adapters reach layer {depth - 1}: "
            "were they probed on another backbone?"
        )
    errors = {
        "directions": direction_errors(distances, signals, config),
        "probe": probe_errors(distances, signals, config),
    }
    return alpha_from_distances(values, signals, config), errors


def _beta(
    signals: Signals, config: ESConfig, shapes: Mapping[str, tuple[int, ...]], device: torch.device
) -> dict[str, Tensor]:
    """Element-wise coefficients, name -> (N, *shape); each score is read once, since it may be on disk."""
    beta: dict[str, Tensor] = {}
    faults: list[str] = []
    for name, shape in shapes.items():
        scores = {expert: signals.scores.get(expert, {}).get(name) for expert in signals.experts}
        faults += [f"{e}: {name} {fault}" for e, score in scores.items() if (fault := _fault(score, shape))]
        if not faults:
            stacked = torch.stack([moved(score, device) for score in scores.values() if score is not None])
            beta[name] = formulas.element_coefficients(stacked, config.tau)
    if faults:
        listing = "\n  ".join(faults)
        raise InputError(f"element-wise scores do not cover the adapters; probe these experts again:\n  {listing}")
    return beta


def _fault(score: Tensor | None, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the scores of a tensor of this shape."""
    if score is None:
        return "is missing"
    if tuple(score.shape) != tuple(shape):
        return f"has shape {tuple(score.shape)}, expected {tuple(shape)}"
    return None if all_finite(score) else f"holds NaN or infinite values in {number_format(score.dtype)}"


def _check_numbers(stacked: Mapping[str, Tensor], config: ESConfig) -> None:
    if broken := not_finite(stacked):
        raise NumberError(
            f"coefficients of {broken[0]} ({len(broken)} of {len(stacked)} tensors) are NaN or infinite in "
            f"{number_format(stacked[broken[0]].dtype)} with granularity.temperature={config.temperature}, "
            f"granularity.tau={config.tau}, granularity.power={config.power}: choose values closer to 1"
        )


def _named(
    experts: tuple[str, ...], alpha: Tensor, elements: Mapping[str, Tensor], errors: Mapping[str, Tensor]
) -> Coefficients:
    """Rows of stacked tensors under the names of their experts."""
    by_expert = {expert: {name: stacked[i] for name, stacked in elements.items()} for i, expert in enumerate(experts)}
    return Coefficients(
        layer=dict(zip(experts, alpha.float(), strict=True)),
        elements=by_expert if elements else {},
        errors={kind: dict(zip(experts, error.float(), strict=True)) for kind, error in errors.items()},
    )
