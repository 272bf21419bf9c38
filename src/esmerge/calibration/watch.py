"""How measures read a model that runs: which prompts and tokens count, and what the adapted layers are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from esmerge.adapters.lora import PREFIX, some
from esmerge.core.errors import InputError
from esmerge.core.prompts import Entity, Prompt
from esmerge.model.linear_layers import ExpertLayers
from esmerge.model.prompt_encoder import Batch
from esmerge.specialists.specialists import Specialists

Look = Callable[[str, Tensor], None]
"""(module name, what the module is given at each position, (B · T, in_features)) -> None."""


def holding(prompts: Sequence[Prompt], modality: str) -> list[Prompt]:
    """The prompts that hold an entity of a modality.

    Raises:
        InputError: there are none.
    """
    selected = [
        p for p in prompts if any(isinstance(segment, Entity) and segment.modality == modality for segment in p)
    ]
    if not selected:
        raise InputError(f"the probe holds no {modality}: every expert's modality must occur")
    return selected


def batches(specialists: Specialists, prompts: Sequence[Prompt], size: int) -> Iterator[Batch]:
    """The prompts as the backbone reads them, ``size`` at a time."""
    for start in range(0, len(prompts), size):
        with torch.no_grad():
            batch = specialists.prompt_encoder.batch(prompts[start : start + size])
        yield batch


def tokens_of(batch: Batch, modality: str) -> Tensor:
    """Which positions belong to entities of a modality, (B, T)."""
    mask = torch.zeros(batch.mask.shape, dtype=torch.bool, device=batch.mask.device)
    for row, spans in enumerate(batch.spans):
        for span in spans:
            if span.modality == modality:
                mask[row, span.start : span.stop] = True
    return mask


def prefill(specialists: Specialists, batch: Batch) -> None:
    """One pass through the decoder layers, without logits."""
    decoder = specialists.backbone.model.get_decoder()
    with torch.no_grad():
        decoder(inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions(), use_cache=False)


@contextmanager
def watching(model: nn.Module, modules: Iterable[str], look: Look) -> Iterator[None]:
    """While it lasts, ``look`` sees what each of the named linear modules is given."""

    def hook(name: str) -> Callable[..., None]:
        parent = model.get_submodule(name.removeprefix(PREFIX).rpartition(".")[0])
        spread = parent.spread if isinstance(parent, ExpertLayers) else torch.Tensor.detach
        return lambda _, args: look(name, spread(args[0].detach()).flatten(0, -2))

    handles = [model.get_submodule(name.removeprefix(PREFIX)).register_forward_pre_hook(hook(name)) for name in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_reached(reached: Iterable[str], modules: Iterable[str]) -> None:
    """Raise ``InputError`` if a module was given nothing at all: a mixture may send no position to an expert."""
    idle = sorted(set(modules) - set(reached))
    if idle:
        raise InputError(
            f"no token of the probe reaches {some(idle)}: give more samples, or a method that measures less"
        )
