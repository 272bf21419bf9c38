"""The model card of a merged adapter: what was merged, how, and with what weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from src.coefficients.signals import Granularity
from src.merging import Merged
from src.runs.plan import RunSpec
from src.specialists.team import Team
from src.tracking.provenance import library_versions


def model_card(spec: RunSpec, team: Team, merged: Merged, settings: Any, granularity: Granularity | None = None) -> str:
    """Markdown text with the front matter that the hub expects of a PEFT adapter.

    Args:
        settings: those that the merge was made with; tuned ones differ from the config's.
        granularity: likewise; None where it is no axis.
    """
    facts = spec.method.entry.facts
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {json.dumps(team.backbone.name)}",
        "tags: [lora, merge]",
        "---",
        "",
        f"# {facts.get('title', spec.method.name)}: {', '.join(team.adapters)}",
        "",
        f"Merged from {len(team.adapters)} LoRA adapters ({facts.get('source', 'no source')}).",
        "",
        f"- merge space: {spec.space}",
        f"- granularity: {'does not apply' if granularity is None else _shown(granularity)}",
        f"- probe: {spec.sweep.probe.name if spec.uses_probe else 'none'}",
        f"- settings: {_shown(settings)}{' (tuned on the validation split)' if spec.tuned else ''}",
        f"- seed: {spec.sweep.seed}, config hash: {spec.hash}",
        *[f"- {name}: {value}" for name, value in merged.state.notes.items()],
        *_weights(merged),
        "",
        "Made with " + ", ".join(f"{name} {version}" for name, version in library_versions().items() if version) + ".",
    ]
    return "\n".join(lines) + "\n"


def _shown(settings: Any) -> str:
    return f"`{json.dumps(asdict(settings))}`"


def _weights(merged: Merged) -> list[str]:
    """Mean weight of each expert in each layer."""
    if merged.coefficients is None:
        return []
    layers = merged.coefficients.layer
    depth = len(next(iter(layers.values())))
    head = ["", "Layer-wise coefficients:", "", "| expert | " + " | ".join(str(layer) for layer in range(depth)) + " |"]
    rule = "|---" * (depth + 1) + "|"
    rows = [
        f"| {name} | " + " | ".join(f"{float(value):.3f}" for value in values) + " |" for name, values in layers.items()
    ]
    return [*head, rule, *rows]
