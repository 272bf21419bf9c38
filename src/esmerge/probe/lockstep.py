"""Backbone and experts through the decoder side by side, so that one layer's activations are in memory at a time.

The bare backbone's own forward pass leads. After each of its layers every expert passes the same layer, from the output
that it had at the layer before, with the same mask and positions. What a layer is given besides hidden states is
taken from the backbone's pass, so no architecture is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from esmerge.model.attach import peft_name
from esmerge.model.backbone import Backbone
from esmerge.model.prompt_encoder import Batch
from esmerge.probe.adapted import adapter_switches
from esmerge.probe.linear import Scores, ScoringLinear

Inputs = tuple[Any, ...]
Keywords = dict[str, Any]
"""What a decoder layer is called with; its architecture decides."""

LayerOutput = Tensor | tuple[Tensor, ...]
"""Hidden states, alone or first among others."""


class LayerHook(Protocol):
    """What looks at the outputs of a layer, (B, T, hidden) each, before the final norm."""

    def backbone(self, layer: int, hidden: Tensor) -> None:
        """The bare backbone's, without a graph; comes before the experts'."""

    def expert(self, layer: int, name: str, hidden: Tensor, reference: Tensor) -> None:
        """An expert's, with the graph of this layer alone, and the backbone's; a backward pass leaves scores."""


def run(
    backbone: Backbone, batch: Batch, experts: Sequence[str], layer_hook: LayerHook, scores: Scores, direct: bool = True
) -> None:
    """One prefill of the backbone and of every expert.

    Args:
        backbone: with the experts' adapters attached.
        batch: what all of them read.
        experts: names of attached adapters.
        layer_hook: sees each layer's outputs as they come.
        scores: where backward passes from an expert's outputs leave the scores.
        direct: whether adapted maps are computed here where they can be; else PEFT computes them all.
    """
    hidden: dict[str, Tensor] = {}
    layers = backbone.layers()

    def follow(index: int, layer: nn.Module, args: Inputs, kwargs: Keywords, output: LayerOutput) -> None:
        """The experts' turn in a layer that the backbone has just passed."""
        reference = _hidden_of(output)
        layer_hook.backbone(index, reference)
        for name in experts:
            layer_input = hidden[name] if name in hidden else _layer_input(args, kwargs)
            switched[index].to(peft_name(name))
            with torch.enable_grad():
                with nullcontext() if switched[index].complete else ScoringLinear(scores):
                    passed = _hidden_of(_call(layer, layer_input, args, kwargs))
                layer_hook.expert(index, name, passed, reference)
            hidden[name] = passed.detach()
        switched[index].to(None)

    with adapter_switches(layers, scores, direct) as switched, _following(layers, follow), torch.no_grad():
        decoder = backbone.model.get_decoder()
        decoder(inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions(), use_cache=False)


@contextmanager
def _following(layers: Iterable[nn.Module], follow: Callable[..., None]) -> Iterator[None]:
    def hook(index: int) -> Callable[..., None]:
        return lambda layer, args, kwargs, output: follow(index, layer, args, kwargs, output)

    handles = [layer.register_forward_hook(hook(i), with_kwargs=True) for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_input(args: Inputs, kwargs: Keywords) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _call(layer: nn.Module, hidden: Tensor, args: Inputs, kwargs: Keywords) -> LayerOutput:
    """The layer on other hidden states; ``forward`` itself, since hooks would call back here."""
    output: LayerOutput
    if args:
        output = layer.forward(hidden, *args[1:], **kwargs)
    else:
        output = layer.forward(**{**kwargs, "hidden_states": hidden})
    return output


def _hidden_of(output: LayerOutput) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
