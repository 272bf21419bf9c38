"""Encoders of the user's own, Python functions from texts to embeddings, and encoders that others released."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.finite import all_finite
from esmerge.specialists.api import Context
from esmerge.specialists.soft_tokens.released import ReleasedEncoder
from esmerge.specialists.soft_tokens.stored import StoredEncoder
from esmerge.storage.tensor_digest import tensors_digest

SAMPLED = 4  # entities by which an encoder is told from what it was

Encode = Callable[[Sequence[str]], Sequence[object]]
"""Texts -> embeddings of each, (tokens, hidden), as long as the backbone's own input embeddings are."""


@dataclass
class EntryPointEncoder:
    """An encoder that calls a function of the user's, and checks what it returns.

    Attributes:
        modality: what it perceives.
        entry: the function's entry point, for messages.
        function: the function.
        hidden: width of the backbone's embeddings.
    """

    modality: str
    entry: str
    function: Encode
    hidden: int
    _samples: dict[tuple[str, ...], str] = field(default_factory=dict, init=False, repr=False)

    def sample(self, values: Sequence[str]) -> str:
        """A hash of the soft tokens of the first few of some texts: the weights and helpers that a function reads are
        known to it alone, and work done with others must not be reused. Errors as of ``encode``.
        """
        chosen = tuple(dict.fromkeys(values))[:SAMPLED]
        if chosen not in self._samples:
            tokens = {value: tokens for value, tokens in zip(chosen, self.encode(chosen), strict=True)}
            self._samples[chosen] = tensors_digest(tokens)
        return self._samples[chosen]

    def encode(self, values: Sequence[str]) -> list[Tensor]:
        """Soft tokens of each text, (tokens, hidden) each.

        Raises:
            InputError: the function fails, or does not return one finite (tokens, hidden) matrix for each text.
        """
        try:
            with torch.no_grad():
                embeddings = [torch.as_tensor(tokens) for tokens in self.function(list(values))]
        except Exception as error:  # whatever a function of the user's may raise
            raise InputError(f"encoder {self.entry} of {self.modality!r} failed: {error!r}") from error
        if len(embeddings) != len(values):
            raise InputError(
                f"encoder {self.entry} of {self.modality!r} gave {len(embeddings)} results for {len(values)} texts"
            )
        for value, tokens in zip(values, embeddings, strict=True):
            if tokens.ndim != 2 or tokens.shape[1] != self.hidden or not len(tokens) or not all_finite(tokens.float()):
                raise InputError(
                    f"encoder {self.entry} of {self.modality!r} made {tuple(tokens.shape)} of {value!r}: expected "
                    f"(tokens, {self.hidden}), at least one token, without NaN or infinite values"
                )
        return embeddings


def entry_point(entry: str) -> Encode:
    """The function at ``package.module:function``; raises ``ConfigError`` if there is none."""
    module, _, name = entry.partition(":")
    try:
        function = reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"encoder {entry!r} cannot be imported ({error}): expected package.module:function on Python's path, which "
            "begins with the working folder"
        ) from error
    if not callable(function):
        raise ConfigError(f"encoder {entry!r} is a {type(function).__name__}: expected a function")
    return function


def source_file(entry: str) -> Path | None:
    """The file that an encoder's function stands in; None for one that is built in.

    Raises:
        ConfigError: there is no such function.
    """
    file = inspect.getsourcefile(inspect.unwrap(entry_point(entry)))
    return Path(file) if file else None


def source_digest(entry: str) -> str:
    """A hash of the file that an encoder's function stands in, so that work done with another version is not reused."""
    file = source_file(entry)
    return hashlib.sha256(file.read_bytes() if file else entry.encode()).hexdigest()[:16]


def stored_encoders(released: Mapping[str, ReleasedEncoder], hidden: int, context: Context) -> dict[str, StoredEncoder]:
    """Modality -> its released encoder behind the cache; none is loaded.

    Args:
        released: modality -> encoder.
        hidden: width of the backbone's embeddings.
        context: the cache, and the device that encoders run on.

    Raises:
        AdapterError: an encoder's folder does not hold it.
        ConfigError: its soft tokens are not as wide as the backbone's embeddings.
    """
    for modality, encoder in released.items():
        if (width := encoder.hidden()) != hidden:
            raise ConfigError(
                f"encoders.{modality} gives soft tokens of width {width}, the backbone's embeddings have {hidden}: it "
                "is made for another backbone"
            )
    return {name: StoredEncoder(name, encoder, context.cache, context.device) for name, encoder in released.items()}
