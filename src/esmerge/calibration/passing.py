"""Prompts on their way through the decoder, layer by layer: all of them pass one layer before any enters the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from esmerge.adapters.lora import PREFIX, LoraFactors
from esmerge.calibration.watch import batches, prefill
from esmerge.core.prompts import Prompt
from esmerge.model.backbone import Backbone
from esmerge.model.linear_layers import linear_layers
from esmerge.model.prompt_encoder import Batch
from esmerge.specialists.specialists import Specialists

HIDDEN = "hidden_states"


@dataclass
class Passage:
    """A batch between two layers.

    Attributes:
        batch: the prompts.
        hidden: what the next layer is given, (B, T, hidden).
        calls: by layer, what it is given besides: a mask, positions … as the bare backbone's own pass gives them.
    """

    batch: Batch
    hidden: Tensor
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]

    def through(self, layers: nn.ModuleList, index: int) -> Tensor:
        """What a layer makes of it, (B, T, hidden); it stays where it is."""
        args, kwargs = self.calls[index]
        with torch.no_grad():
            output = layers[index](self.hidden, *args, **kwargs)
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        return hidden


def passages(specialists: Specialists, prompts: Sequence[Prompt], size: int) -> list[Passage]:
    """Every batch before the first layer; one pass of the bare backbone shows how its layers are called."""
    return [_entering(specialists, batch) for batch in batches(specialists, prompts, size)]


@contextmanager
def updated(backbone: Backbone, updates: Mapping[str, Sequence[LoraFactors]]) -> Iterator[None]:
    """While it lasts, each named linear module computes with the sum of some updates of low rank added."""
    linear = linear_layers(backbone.model)
    handles = []
    try:
        for module, parts in updates.items():
            layer = linear[module.removeprefix(PREFIX)]
            handles.append(layer.register_forward_hook(_adding(parts, layer.weight)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _entering(specialists: Specialists, batch: Batch) -> Passage:
    first: list[Tensor] = []
    calls: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []

    def look(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keywords = {name: value for name, value in kwargs.items() if name != HIDDEN}
        if not first:
            first.append((args[0] if args else kwargs[HIDDEN]).detach())
        calls.append((args[1:], keywords))

    handles = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in specialists.backbone.layers()]
    try:
        prefill(specialists, batch)
    finally:
        for handle in handles:
            handle.remove()
    return Passage(batch, first[0], calls)


def _adding(parts: Sequence[LoraFactors], like: Tensor) -> Any:
    a = torch.cat([factors.a.to(like) for factors in parts])  # (Σr, in)
    b = torch.cat([factors.scale * factors.b.to(like) for factors in parts], dim=1)  # (out, Σr)
    return lambda _, args, output: output + (args[0] @ a.T) @ b.T
