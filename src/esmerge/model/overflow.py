"""Where a model's numbers stop being numbers: looked for only once an answer has none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from esmerge.core.errors import NumberError
from esmerge.core.finite import all_finite, number_format
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import EncodedPrompt, PromptEncoder

REMEDY = "load the backbone in a wider number format (bfloat16 or float32), or look at the adapter's scale"


def overflow_error(prompt_encoder: PromptEncoder, prompt: EncodedPrompt, subject: str) -> NumberError:
    """What is wrong (``subject``), in which number format, and where in the model it begins.

    Args:
        prompt: the one that is read again to find the place, under the adapter that is active now.
    """
    backbone = prompt_encoder.backbone
    where = first_overflow(prompt_encoder, prompt)
    return NumberError(f"{subject} in {number_format(backbone.model.dtype)}, which begins in {where}: {REMEDY}")


@torch.no_grad()
def first_overflow(prompt_encoder: PromptEncoder, prompt: EncodedPrompt) -> str:
    """The first part of the model whose output holds NaN or infinity: embeddings, a decoder layer, or its end."""
    batch, backbone = prompt_encoder.collate([prompt]), prompt_encoder.backbone
    if not all_finite(batch.embeds):
        return "the input embeddings"
    overflown: list[int] = []
    handles = [layer.register_forward_hook(_noting(overflown, n)) for n, layer in enumerate(_layers(backbone))]
    try:
        backbone.model(inputs_embeds=batch.embeds, attention_mask=batch.mask, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return f"decoder layer {overflown[0]}" if overflown else "the output layer"


def _layers(backbone: Backbone) -> list[nn.Module]:
    return list(backbone.layers())


def _noting(overflown: list[int], number: int) -> Callable[..., None]:
    def hook(module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
        hidden = output if isinstance(output, Tensor) else output[0]
        if not all_finite(hidden):
            overflown.append(number)

    return hook
