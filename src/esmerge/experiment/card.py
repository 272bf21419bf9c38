"""The model card of a merged adapter: what was merged, how, and with what weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from esmerge.coefficients.types import ESConfig
from esmerge.experiment.plan import RunSpec
from esmerge.tracking.provenance import library_versions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Shares = tuple[Sequence[str], NDArray[np.float64]]
"""Experts and their weights, (experts, layers)."""


def model_card(
    spec: RunSpec,
    experts: Sequence[str],
    settings: DataclassInstance,
    granularity: ESConfig | None = None,
    shares: Shares | None = None,
    details: Sequence[str] = (),
) -> str:
    """Markdown text that follows the title of a merged adapter's card.

    Args:
        experts: names of what was merged.
        settings: those that the merge was made with; tuned ones differ from the config's.
        granularity: likewise; None where it is no axis.
        shares: the experts' weights in each layer, where the merge has weights.
        details: further lines.
    """
    lines = [
        f"{spec.info.title} of {', '.join(experts)}.",
        "",
        f"Merged from {len(experts)} LoRA adapters ({spec.info.source}).",
        "",
        f"- merge space: {spec.space}",
        f"- granularity: {'does not apply' if granularity is None else _shown(granularity)}",
        f"- probe: {spec.sweep.probe.name if spec.uses_probe else 'none'}",
        f"- settings: {_shown(settings)}{' (tuned on the validation split)' if spec.tuned else ''}",
        f"- seed: {spec.sweep.seed}, config hash: {spec.hash}",
        *details,
        *([] if shares is None else _weights(*shares)),
        "",
        "Made with " + ", ".join(f"{name} {version}" for name, version in library_versions().items() if version) + ".",
    ]
    return "\n".join(lines) + "\n"


def _shown(settings: DataclassInstance) -> str:
    return f"`{json.dumps(asdict(settings))}`"


def _weights(experts: Sequence[str], weights: NDArray[np.float64]) -> list[str]:
    """Mean weight of each expert in each layer, (experts, layers), as a table."""
    depth = weights.shape[1]
    head = [
        "",
        "Mean coefficient of each expert in each layer:",
        "",
        "| expert | " + " | ".join(map(str, range(depth))) + " |",
    ]
    rows = [
        f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |"
        for name, row in zip(experts, weights, strict=True)
    ]
    return [*head, "|---" * (depth + 1) + "|", *rows]
