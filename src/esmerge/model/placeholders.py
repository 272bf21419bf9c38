"""Placeholder tokens, which soft tokens replace, and padding: set once on a tokenizer, and checked against it.

The backbone stays as it is: no embedding is added. A placeholder that is new to the tokenizer gets an id beyond the
backbone's vocabulary; it is never looked up, since ``PlaceholderTokens.lookup`` gives padding in its place and soft
tokens stand there anyway. So a head never gives probability to a token that nobody trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from esmerge.core.errors import ConfigError


@dataclass(frozen=True)
class Placeholder:
    """The token that stands for one modality's soft tokens.

    Attributes:
        token: its text, e.g. ``<mol>``.
        id: that it must have, e.g. 128003; None for a token that may be added to the tokenizer.
    """

    token: str
    id: int | None = None


@dataclass(frozen=True)
class TokenSettings:
    """Which tokens a family of specialists needs.

    Attributes:
        pad: text of the token that fills up batches, which the tokenizer must have, e.g. ``<|eot_id|>``; None for the
            tokenizer's own.
        placeholders: modality -> its token.
    """

    pad: str | None = None
    placeholders: dict[str, Placeholder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [placeholder.token for placeholder in self.placeholders.values()]
        doubled = sorted({text for text in texts if texts.count(text) > 1 or text in ("", self.pad)})
        if doubled:
            raise ConfigError(
                f"tokens.placeholders name {', '.join(map(repr, doubled))} twice, as padding, or not at all: every "
                "modality needs a token of its own"
            )


@dataclass(frozen=True)
class PlaceholderTokens:
    """The tokens as a tokenizer has them.

    Attributes:
        ids: modality -> id of its placeholder.
        pad: id of padding.
    """

    ids: Mapping[str, int]
    pad: int

    def spans(self, ids: Tensor, modality: str) -> Tensor:
        """Where a modality's soft tokens go: bool, of the shape of ``ids``."""
        return ids == self.ids[modality]

    def lookup(self, ids: Tensor) -> Tensor:
        """Ids for the embedding table: those given, with padding in place of placeholders."""
        placeholder_ids = torch.tensor(list(self.ids.values()), device=ids.device, dtype=ids.dtype)
        return torch.where(torch.isin(ids, placeholder_ids), torch.full_like(ids, self.pad), ids)


LLAMA3 = TokenSettings(
    pad="<|eot_id|>",
    placeholders={
        "molecule": Placeholder("<mol>"),
        "protein": Placeholder("<|reserved_special_token_1|>", 128003),
    },
)
"""Of the specialists on Llama-3.1: Mol-LLaMA adds its token, Prot2Text-V2 takes one that Llama reserves."""


def set_placeholders(tokenizer: PreTrainedTokenizerBase, settings: TokenSettings) -> PlaceholderTokens:
    """Give a tokenizer its padding and placeholders; done again, or after others added theirs, nothing changes.

    A placeholder that the tokenizer has keeps its id, whatever was added before it.

    Raises:
        ConfigError: the tokenizer lacks the padding or a token with an id of its own, has it under another id, or reads
            a placeholder as several tokens.
    """
    vocabulary = tokenizer.get_vocab()
    if settings.pad is not None and settings.pad not in vocabulary:
        raise ConfigError(f"tokens.pad={settings.pad!r} is no token of this tokenizer: is it the backbone's?")
    for modality, placeholder in settings.placeholders.items():
        _check_id(vocabulary, modality, placeholder)
    if settings.pad is not None:
        tokenizer.pad_token = settings.pad
    added = [p.token for p in settings.placeholders.values() if p.token not in vocabulary]
    if added:
        tokenizer.add_tokens(added, special_tokens=True)
    ids = {modality: _read_as_one(tokenizer, modality, p) for modality, p in settings.placeholders.items()}
    return PlaceholderTokens(ids, tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)


def _check_id(vocabulary: Mapping[str, int], modality: str, placeholder: Placeholder) -> None:
    """Refuse a token whose id is fixed where the tokenizer has another."""
    if placeholder.id is None:
        return
    actual = vocabulary.get(placeholder.token)
    if actual != placeholder.id:
        holder = next((text for text, index in vocabulary.items() if index == placeholder.id), None)
        raise ConfigError(
            f"tokens.placeholders.{modality}: {placeholder.token} must have the id {placeholder.id}, in this tokenizer "
            f"it has {actual}, and {placeholder.id} is {holder!r}: give the tokenizer that the specialist was trained "
            "with"
        )


def _read_as_one(tokenizer: PreTrainedTokenizerBase, modality: str, placeholder: Placeholder) -> int:
    """The id of a token; twice in a row and inside a word it must be read as itself."""
    index = int(tokenizer.get_vocab()[placeholder.token])
    ids = tokenizer(f"a{placeholder.token}{placeholder.token}b", add_special_tokens=False)["input_ids"]
    if list(ids).count(index) != 2:
        raise ConfigError(
            f"tokens.placeholders.{modality}: the tokenizer reads {placeholder.token} as other tokens than {index}: "
            "make it a special token, tokenizer.add_tokens([...], special_tokens=True), and save the tokenizer again"
        )
    return index
