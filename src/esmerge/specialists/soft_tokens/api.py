"""What an encoder is, and where encoders register themselves.

An encoder is a function ``settings -> FeatureEncoder`` registered under the name that its config gives: one file in
``specialists/encoders/``, one config in ``conf/encoder/``, one test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from esmerge.core.errors import ConfigError
from esmerge.core.registry import Registry
from esmerge.core.schema import choose

ENCODERS: Registry[None] = Registry("encoder", "esmerge.specialists.encoders", "esmerge.encoders")


class Trunk(nn.Module):
    """The part of an encoder that is trained alone and then frozen: (n, ...) prepared entities -> (n, width)."""

    def fit_statistics(self, inputs: Tensor) -> None:
        """Take from a sample of prepared entities what is not learnt by gradients; nothing unless a trunk says so."""


@dataclass(frozen=True)
class FeatureEncoder:
    """How entities of one kind become features.

    Attributes:
        check: raw form -> the form that is read; raises ``InputError`` naming an invalid value.
        prepare: n raw forms -> the trunk's input, (n, ...); raises ``InputError`` naming an invalid value.
        trunk: width -> an untrained trunk with so many features.
        batch_size: entities that pass through the trunk at once; None for all of a call.
    """

    check: Callable[[str], str]
    prepare: Callable[[Sequence[str]], Tensor]
    trunk: Callable[[int], Trunk]
    batch_size: int | None = None


@dataclass(frozen=True)
class EncoderChoice:
    """An encoder that a config names.

    Attributes:
        name: its registered name.
        function: ``settings -> FeatureEncoder``.
        settings: its typed settings.
    """

    name: str
    function: Callable[..., FeatureEncoder]
    settings: Any

    def features(self) -> FeatureEncoder:
        """The encoder that the settings describe."""
        return self.function(self.settings)

    def key(self) -> dict[str, object]:
        """Name and settings, for cache keys."""
        return {"name": self.name, **asdict(self.settings)}


def choose_encoder(node: object, path: str) -> EncoderChoice:
    """The encoder that a config names.

    Args:
        node: a registered name, which takes the encoder's default settings; or ``name`` and settings.
        path: where the node stands in the config, for messages.

    Raises:
        ConfigError: there is no such encoder, a setting is unknown or wrong, or the node is neither.
    """
    if isinstance(node, str):
        node = {"name": node}
    name = node.get("name") if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or name not in ENCODERS.names():
        value = node if name is None else name
        raise ConfigError(f"{path}={value!r}: expected an encoder, one of {', '.join(ENCODERS.names())}")
    selection = choose(ENCODERS, node, path)
    return EncoderChoice(selection.entry.name, selection.entry.function, selection.settings)
