"""Whole decoder layers held to the experts' outputs: no closed form, so the merge is moved by gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from benchmarks.directions.material import Material, Updates
from torch import Tensor, nn

from esmerge.adapters.lora import PREFIX
from esmerge.calibration.statistics.alignment import respond
from esmerge.calibration.statistics.span_inputs import evenly
from esmerge.calibration.watch import batches, holding, tokens_of
from esmerge.model.prompt_encoder import Batch

PROMPTS = 64  # of each expert, read in one pass


@dataclass(frozen=True)
class Goal:
    """What the layers of one expert give at its own tokens of some prompts.

    Attributes:
        tokens: which positions, (B, T).
        hidden: outputs of all decoder layers there, (layers, P, d).
        size: of what the expert changes in each layer's output, its mean square, (layers,).
    """

    batch: Batch
    tokens: Tensor
    hidden: Tensor
    size: Tensor


def layer_outputs(material: Material, start: Updates, steps: int, rate: float) -> Updates:
    """Updates near ``start`` whose layers' outputs are nearer to the experts' at the experts' own tokens.

    The loss is the mean over experts and layers of ``‖h_merge − h_i‖² / ‖h_i − h_backbone‖²``. Few small steps of Adam
    keep the updates near their start, as the ridge does in the closed form.

    Args:
        steps: of Adam, each over all prompts.
        rate: of Adam: at most ``steps · rate`` is added to an entry.
    """
    specialists = material.models.context.specialists
    model, layers = specialists.backbone.model, range(len(specialists.backbone.layers()))
    goals = collect_goals(material, layers)
    moved = {module: update.float().clone().requires_grad_(True) for module, update in start.items()}
    optimiser = torch.optim.Adam(moved.values(), lr=rate)
    model.requires_grad_(False)
    with torch.enable_grad(), adding(model, moved):
        for _ in range(steps):
            for goal in goals:
                hidden = respond(specialists, goal.batch, goal.tokens, layers).hidden
                errors = (hidden - goal.hidden).square().mean(dim=(1, 2)) / goal.size
                (errors.mean() / len(goals)).backward()
            optimiser.step()
            optimiser.zero_grad()
    return {module: update.detach().double() for module, update in moved.items()}


@torch.no_grad()
def collect_goals(material: Material, layers: Sequence[int]) -> list[Goal]:
    """Every expert's, over prompts that hold its modality."""
    specialists, goals = material.models.context.specialists, []
    with specialists.backbone.attached(material.models.adapters) as activate:
        for name in material.experts:
            modality = specialists.expert_modality[name]
            for batch in batches(specialists, evenly(holding(material.prompts, modality), PROMPTS), PROMPTS):
                tokens = tokens_of(batch, modality)
                activate(None)
                bare = respond(specialists, batch, tokens, layers).hidden
                activate(name)
                hidden = respond(specialists, batch, tokens, layers).hidden
                goals.append(Goal(batch, tokens, hidden, (hidden - bare).square().mean(dim=(1, 2)).clamp_min(1e-12)))
    return goals


@contextmanager
def adding(model: nn.Module, updates: Mapping[str, Tensor]) -> Iterator[None]:
    """While it lasts, every named linear module's output has its update's on top."""

    def hook(update: Tensor) -> Callable[..., Tensor]:
        return lambda _, args, output: output + args[0] @ update.T

    handles = [
        model.get_submodule(name.removeprefix(PREFIX)).register_forward_hook(hook(update))
        for name, update in updates.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
