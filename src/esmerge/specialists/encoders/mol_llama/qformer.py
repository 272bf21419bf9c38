"""The Q-Former: learnt queries ask the molecule's atoms through the layers of a BERT.

Li et al., BLIP-2, ICML 2023. It is transformers' own; Mol-LLaMA started its from SciBERT, keeps that for text, and
names its tensors otherwise, ``bert_name`` says how.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class QFormerShape:
    """Sizes of the Q-Former; the defaults are SciBERT's and Mol-LLaMA's.

    Attributes:
        layers: of the transformer.
        width: of the queries.
        inner: units of the feed-forward layers.
        heads: of attention.
        queries: soft tokens that come out.
        context: width of what is asked.
        every: one layer of so many, from the first, attends to what is asked.
    """

    layers: int = 12
    width: int = 768
    inner: int = 3072
    heads: int = 12
    queries: int = 8
    context: int = 512
    every: int = 2


def qformer(shape: QFormerShape) -> nn.Module:
    """transformers' Q-Former of these sizes, without weights worth keeping; layer norms add 1e-12, as BERT's do."""
    from transformers import Blip2QFormerConfig, Blip2QFormerModel  # late: it takes a while to import

    config = Blip2QFormerConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        encoder_hidden_size=shape.context,
        cross_attention_frequency=shape.every,
        layer_norm_eps=1e-12,
    )
    return Blip2QFormerModel(config)


def ask(model: nn.Module, queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    """What the queries come out as.

    Args:
        model: a Q-Former.
        queries: (1, queries, width), the same for every molecule.
        context: (b, n, context).
        mask: (b, n), true where something stands.

    Returns:
        (b, queries, width).
    """
    output = model(
        query_embeds=queries.expand(len(context), -1, -1),
        encoder_hidden_states=context,
        encoder_attention_mask=mask.long(),
    )
    answered: Tensor = output.last_hidden_state
    return answered


def bert_name(name: str) -> str:
    """transformers' name of a Q-Former's tensor -> the release's."""
    if name.startswith("layernorm."):
        return "bert.embeddings.LayerNorm." + name.removeprefix("layernorm.")
    return "bert." + name.replace("attention.attention.", "attention.self.")
