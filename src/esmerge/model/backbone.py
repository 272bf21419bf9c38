"""The shared language model: one resident copy, on which adapters are switched in place."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from esmerge.adapters.dense import DenseState, Update
from esmerge.adapters.lora import LoraState
from esmerge.core.errors import ConfigError
from esmerge.model.placeholders import PlaceholderTokens


@dataclass
class Backbone:
    """A decoder-only causal language model and its tokenizer.

    Attributes:
        model: the transformers model without adapters.
        tokenizer: its tokenizer.
        name: Hugging Face id or folder, written into the adapters made for it.
        fingerprint: content hash of the weights, part of every cache key.
        placeholders: the tokens that stand where soft tokens go; None where padding stands there.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    fingerprint: str
    placeholders: PlaceholderTokens | None = None

    def __post_init__(self) -> None:
        head = typing.cast("nn.Module | None", self.model.get_output_embeddings())
        if head is not None and _contiguous not in head._forward_pre_hooks.values():
            head.register_forward_pre_hook(_contiguous)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def start_id(self) -> int | None:
        """Id of the start token, if the tokenizer has one."""
        start: int | None = self.tokenizer.bos_token_id
        return start

    @property
    def padding_id(self) -> int:
        """An id to fill padding and soft-token positions with; what it is does not matter, since both are masked.

        A tokenizer may have been given a token for padding that the embeddings have no row for.
        """
        padding: int | None = self.tokenizer.pad_token_id
        return padding if padding is not None and padding < self.vocabulary_rows else 0

    @property
    def vocabulary_rows(self) -> int:
        """Rows of the input embeddings: ids from here on stand for nothing that the backbone knows."""
        return len(self.embeddings())

    def known_ids(self, ids: Iterable[int]) -> set[int]:
        """Those of some ids that can be embedded: tokens with a row of their own, and placeholders."""
        placeholders = set() if self.placeholders is None else set(self.placeholders.ids.values())
        return {index for index in ids if index < self.vocabulary_rows or index in placeholders}

    def placeholder_id(self, modality: str) -> int:
        """The id that stands where a modality's soft tokens go: its placeholder's, or padding."""
        ids = {} if self.placeholders is None else self.placeholders.ids
        return ids.get(modality, self.padding_id)

    def embeddings(self) -> Tensor:
        """The input embeddings of all tokens, (vocabulary, hidden), without a gradient."""
        return typing.cast(nn.Embedding, self.model.get_input_embeddings()).weight.detach()

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings, (..., hidden); a placeholder, which may have no row of its own, has that of padding."""
        rows = ids if self.placeholders is None else self.placeholders.lookup(ids)
        embeddings: Tensor = self.model.get_input_embeddings()(rows)
        return embeddings

    def layers(self) -> nn.ModuleList:
        """The decoder layers."""
        return decoder_layers(self.model)[1]

    @contextmanager
    def attached(self, states: Mapping[str, Update]) -> Iterator[Callable[[str | None], None]]:
        """Attach adapters and dense updates for a while; yields ``activate(name)``; ``None`` is the bare backbone.

        The backbone is left as it was found, whatever happens in between.
        """
        from esmerge.model.applied import Baked
        from esmerge.model.attach import attach, detach

        flags = {parameter: parameter.requires_grad for parameter in self.model.parameters()}
        adapters = {name: state for name, state in states.items() if isinstance(state, LoraState)}
        dense = Baked(self.model, {name: state for name, state in states.items() if isinstance(state, DenseState)})
        try:
            switch = attach(self.model, adapters)

            def activate(name: str | None) -> None:
                switch(name if name in adapters else None)
                dense.switch(None if name in adapters else name)

            yield activate
        finally:
            detach(self.model)
            dense.switch(None)
            for parameter, flag in flags.items():
                parameter.requires_grad_(flag)


def _contiguous(head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The head's input in one piece.

    transformers gives it a slice, the positions that are asked. On a CPU in bfloat16 torch would then copy the head's
    weight, the largest of a small model, once for every prompt of the batch: two thirds of all time.
    """
    return tuple(arg.contiguous() for arg in args)


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Path of the decoder layers and the layers: the list inside the decoder that is as long as the config says.

    A wrapper's other parts, such as a vision tower, may hold a list of the same length.

    Raises:
        ConfigError: there is no such list.
    """
    language_model = typing.cast(PreTrainedModel, model)
    depth = language_model.config.get_text_config().num_hidden_layers
    inside = {id(module) for module in language_model.get_decoder().modules()}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth and id(module) in inside:
            return path, module
    raise ConfigError(
        f"{type(model).__name__} keeps its {depth} decoder layers in no list: expected a decoder-only language model"
    )
