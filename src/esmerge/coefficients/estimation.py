"""From a probe's signals to merging coefficients at the chosen granularity."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from esmerge.adapters.lora import layer_of
from esmerge.coefficients.distances import Distances
from esmerge.coefficients.element import element_coefficients
from esmerge.coefficients.joint import joint_coefficients
from esmerge.coefficients.types import Coefficients, ESConfig, Signals
from esmerge.coefficients.uncertainty import AUTO, coefficients_of, direction_errors, measured_distances, probe_errors
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.finite import all_finite

GRANULARITIES = ("layer", "element", "joint")
SCORES = ("absolute", "squared")


def coefficients(
    signals: Signals,
    granularity: ESConfig,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
    distances: Distances | None = None,
) -> Coefficients:
    """Coefficients of every expert for every tensor that is to be merged.

    Args:
        signals: what the probe left behind.
        granularity: ``layer`` (alpha), ``element`` (beta) or ``joint`` (lambda), and the constants of the formulas.
        shapes: name -> shape of each tensor to be merged: factors in factor space, dense updates in delta space.
        seed: of the random directions.
        distances: of the experts' responses from the backbone's, if they are known.

    Raises:
        ConfigError: an unknown granularity, or a constant out of range.
        InputError: scores or layers are missing, or do not fit the tensors.
    """
    check_granularity(granularity)
    depth = 1 + max(layer_of(name) for name in shapes)
    errors: dict[str, Tensor] = {}
    if granularity.name == "element":
        alpha = torch.full((len(signals.experts), depth), 1 / len(signals.experts), dtype=torch.float64)
    else:
        distances = distances or measured_distances(signals, granularity, seed)
        alpha, errors = _layers(signals, granularity, depth, distances)
    betas = {} if granularity.name == "layer" else _elements(signals, granularity, shapes)
    if granularity.name == "joint":
        betas = {name: joint_coefficients(alpha[:, layer_of(name)], beta) for name, beta in betas.items()}
    return Coefficients(
        layer=dict(zip(signals.experts, alpha.float(), strict=True)),
        elements={expert: {name: beta[i] for name, beta in betas.items()} for i, expert in enumerate(signals.experts)}
        if betas
        else {},
        errors={kind: dict(zip(signals.experts, e.float(), strict=True)) for kind, e in errors.items()},
    )


def check_granularity(granularity: ESConfig) -> None:
    """Raise ``ConfigError`` if the name or a constant of the granularity is not allowed."""
    if granularity.name not in GRANULARITIES:
        raise ConfigError(f"unknown granularity.name {granularity.name!r}: expected one of {', '.join(GRANULARITIES)}")
    if granularity.projections != AUTO and not str(granularity.projections).isdigit():
        raise ConfigError(f"granularity.projections={granularity.projections!r}: expected an integer or {AUTO}")
    if granularity.resamples < 0:
        raise ConfigError(f"granularity.resamples={granularity.resamples}: expected 0 or more")
    fields = ("temperature", "tau", "power", "tolerance")
    for field in fields if granularity.projections == AUTO else (*fields, "projections"):
        value = getattr(granularity, field)
        if not value > 0:
            raise ConfigError(f"granularity.{field}={value} must be greater than 0")
    if granularity.score not in SCORES:
        raise ConfigError(f"granularity.score={granularity.score!r}: expected one of {', '.join(SCORES)}")


def _layers(
    signals: Signals, granularity: ESConfig, depth: int, distances: Distances
) -> tuple[Tensor, dict[str, Tensor]]:
    """Layer-wise coefficients, (N, L), and their standard errors."""
    values = distances.values
    if values.shape[-1] < depth:
        raise InputError(
            f"the probe measured {values.shape[-1]} layers, but the adapters reach layer {depth - 1}: "
            "were they probed on another backbone?"
        )
    errors = {
        "directions": direction_errors(distances, signals, granularity),
        "probe": probe_errors(distances, signals, granularity),
    }
    return coefficients_of(values, signals, granularity), errors


def _elements(signals: Signals, granularity: ESConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Element-wise coefficients, name -> (N, *shape); each score is read once, since it may be on disk."""
    found: dict[str, Tensor] = {}
    wrong: list[str] = []
    for name, shape in shapes.items():
        scores = [signals.scores.get(expert, {}).get(name) for expert in signals.experts]
        faults = [_fault(score, shape) for score in scores]
        wrong += [f"{e}: {name} {fault}" for e, fault in zip(signals.experts, faults, strict=True) if fault]
        if not wrong:
            found[name] = element_coefficients(torch.stack([s for s in scores if s is not None]), granularity.tau)
    if wrong:
        listed = "\n  ".join(wrong)
        raise InputError(f"element-wise scores do not cover the adapters; probe these experts again:\n  {listed}")
    return found


def _fault(score: Tensor | None, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the scores of a tensor of this shape."""
    if score is None:
        return "is missing"
    if tuple(score.shape) != tuple(shape):
        return f"has shape {tuple(score.shape)}, expected {tuple(shape)}"
    return None if all_finite(score) else "holds NaN or infinite values"
