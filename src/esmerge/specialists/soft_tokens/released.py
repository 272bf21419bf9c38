"""Encoders that others trained: loaded as they were released, with their projectors, and never trained here.

Like every encoder, one is a file in ``specialists/encoders/``, a config in ``conf/encoder/`` and a test. Its function,
``settings -> ReleasedEncoder``, registers itself here; it reads nothing from disk before it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from esmerge.core.errors import AdapterError, ConfigError
from esmerge.core.paths import user_path
from esmerge.core.registry import Registry
from esmerge.core.schema import choose

DTYPES = ("float32", "bfloat16")
Encode = Callable[[str], Tensor]
"""A value in the form that ``check`` gives it -> its soft tokens, (tokens, hidden)."""


@dataclass(frozen=True)
class ReleasedSettings:
    """What the settings of every released encoder offer; an encoder's settings derive from it.

    Attributes:
        path: folder that ``esmerge unpack`` wrote, or the release itself as a Hugging Face folder.
        dtype: of weights and soft tokens.
    """

    path: str | None = None
    dtype: str = DTYPES[0]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"encoder.dtype={self.dtype!r}: expected one of {', '.join(DTYPES)}")

    def torch_dtype(self) -> torch.dtype:
        """The number format as torch has it."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


@dataclass(frozen=True)
class Inspection:
    """What an encoder refuses although its form is valid, told without the encoder's weights.

    Attributes:
        inspect: takes a value in the form that ``check`` gives it; raises ``InputError`` where the encoder has no soft
            tokens for it. It may take long, so each value is looked at once and the verdict kept in the cache.
        digest: content hash of all that decides the verdict beside the value: settings, versions, code.
    """

    inspect: Callable[[str], object]
    digest: Callable[[], str]


@dataclass(frozen=True)
class ReleasedEncoder:
    """A frozen encoder with its projector.

    Attributes:
        check: raw form -> the form that is read; raises ``InputError`` naming an invalid value.
        hidden: width of its soft tokens, which must be the backbone's.
        digest: content hash of all that decides its soft tokens: weights, their number format, its code.
        load: the encoder in the memory of a device; what it gives of a value depends on that value alone.
        inspection: whatever ``load``'s encoder refuses of what ``check`` lets pass; None where that is nothing.
    """

    check: Callable[[str], str]
    hidden: Callable[[], int]
    digest: Callable[[], str]
    load: Callable[[torch.device], Encode]
    inspection: Inspection | None = None


RELEASED: Registry[None] = Registry(
    "released encoder", "esmerge.specialists.encoders", "esmerge.encoders", ReleasedSettings
)


def choose_released(node: object, path: str) -> ReleasedEncoder:
    """The released encoder that a config names; nothing of it is read yet.

    Args:
        node: ``name`` and settings.
        path: where the node stands in the config, for messages.

    Raises:
        ConfigError: there is no such encoder, a setting is unknown or wrong, or the path is not set.
    """
    name = node.get("name") if isinstance(node, Mapping) else node
    if name not in RELEASED.names():
        raise ConfigError(f"{path}={name!r}: expected a released encoder, one of {', '.join(RELEASED.names())}")
    selection = choose(RELEASED, node if isinstance(node, Mapping) else {"name": node}, path)
    if not selection.settings.path:
        raise ConfigError(f"{path}.path is not set: give the folder that esmerge unpack wrote, or the release's own")
    user_path(selection.settings.path, f"{path}.path")
    encoder: ReleasedEncoder = selection.entry.function(selection.settings)
    return encoder


def refuse_unplaced(part: str, unplaced: Iterable[str], missing: Iterable[str], shapes: Iterable[str]) -> None:
    """Raise ``AdapterError`` with every tensor that has no place, is missing, or has another shape.

    Args:
        part: of the release.
        unplaced: names of tensors that nothing takes.
        missing: names of weights that no tensor gives.
        shapes: what is wrong with the shape of others, in words.
    """
    faults = [f"{name} has no place" for name in sorted(unplaced)]
    faults += [f"{name} is missing" for name in sorted(missing)] + sorted(shapes)
    if faults:
        listing = "\n  ".join(faults)
        raise AdapterError(f"the {part} of the release does not fit its config:\n  {listing}\nUnpack or copy it again")
