"""The small specialists' model by hand, without PEFT: one prompt at a time, adapters as hooks on the bare layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.core.prompts import Prompt
from esmerge.model.attach import PREFIX
from esmerge.model.prompt_encoder import Batch
from esmerge.specialists.specialists import Specialists


@contextmanager
def adapted(specialists: Specialists, state: LoraState | None) -> Iterator[None]:
    """The adapter as y + scale · B (A x) on the bare linear layers; None leaves them bare."""
    handles = []
    for module, factors in state.modules.items() if state else ():

        def hook(_: object, args: tuple[Tensor], output: Tensor, f: LoraFactors = factors) -> Tensor:
            return output + f.scale * (args[0] @ f.a.T @ f.b.T)

        layer = specialists.backbone.model.get_submodule(module.removeprefix(PREFIX))
        handles.append(layer.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def one(specialists: Specialists, prompt: Prompt) -> Batch:
    return specialists.prompt_encoder.batch([prompt])


def logits(specialists: Specialists, state: LoraState | None, batch: Batch) -> Tensor:
    """Next-token logits, (T, vocabulary)."""
    with adapted(specialists, state):
        return specialists.backbone.model(inputs_embeds=batch.embeds).logits[0]


def linear_inputs(specialists: Specialists, state: LoraState | None, prompt: Prompt) -> dict[str, Tensor]:
    """What each adapted layer is given for one prompt: module -> (T, in_features)."""
    inputs: dict[str, Tensor] = {}
    handles = []
    for module in next(iter(specialists.adapters.values())).modules:
        layer = specialists.backbone.model.get_submodule(module.removeprefix(PREFIX))
        handles.append(layer.register_forward_hook(lambda _, args, out, m=module: inputs.update({m: args[0][0]})))
    with torch.no_grad():
        logits(specialists, state, one(specialists, prompt))
    for handle in handles:
        handle.remove()
    return inputs


def own_places(specialists: Specialists, prompt: Prompt, modality: str) -> list[int]:
    """Positions of a modality's tokens in one prompt."""
    spans = one(specialists, prompt).spans[0]
    return [place for span in spans if span.modality == modality for place in range(span.start, span.stop)]


def snapshot(specialists: Specialists) -> tuple[dict[str, Tensor], dict[str, bool], int]:
    """Weights, gradient flags and number of hooks of the backbone, to compare before and after."""
    model = specialists.backbone.model
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    flags = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    hooks = sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())
    return weights, flags, hooks


def same(before: tuple[dict[str, Tensor], dict[str, bool], int], specialists: Specialists) -> bool:
    weights, flags, hooks = snapshot(specialists)
    equal = weights.keys() == before[0].keys() and all(torch.equal(weights[key], before[0][key]) for key in weights)
    return equal and (flags, hooks) == before[1:]
