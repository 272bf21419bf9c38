"""Where the user's backbone comes from, and how it is held in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from esmerge.core.errors import ConfigError

BITS = (8, 4)


@dataclass(frozen=True)
class BackboneSource:
    """Where the backbone comes from.

    Attributes:
        path: Hugging Face folder or hub id.
        trust_remote_code: whether Python files that come with it may be run.
    """

    path: str
    trust_remote_code: bool = False


@dataclass(frozen=True)
class LoadedBackbone(BackboneSource):
    """How a backbone comes into memory.

    Attributes:
        device_map: over which GPUs it is spread, as transformers takes it: ``auto``, ``balanced``, or module -> device;
            None for one device.
        quantise: 8 or 4 bits for each weight of a linear layer, by bitsandbytes; None for a number format as a whole.
    """

    device_map: str | Mapping[str, str | int] | None = None
    quantise: int | None = None

    def __post_init__(self) -> None:
        if self.quantise not in (None, *BITS):
            raise ConfigError(f"backbone.quantise={self.quantise!r}: expected 8 or 4 bits, or null")
        if not isinstance(self.device_map, str | Mapping | None):
            raise ConfigError(
                f"backbone.device_map={self.device_map!r}: expected auto, balanced, {{module: device}} or null"
            )

    @property
    def on_one_device(self) -> bool:
        """Whether the model is moved to a device as a whole, once it is loaded."""
        return self.device_map is None and self.quantise is None


Source = TypeVar("Source", bound=BackboneSource)


def backbone_source(value: object, kind: type[Source]) -> Source:
    """A ``backbone`` node, a path or the fields of ``kind``; raises ``ConfigError`` naming what is wrong."""
    settings = [item.name for item in fields(kind)]
    node = value if isinstance(value, Mapping) else {"path": value}
    unknown = sorted(set(map(str, node)) - set(settings))
    if unknown:
        raise ConfigError(f"backbone.{unknown[0]} is not a setting: expected one of {', '.join(settings)}")
    if not node.get("path"):
        raise ConfigError("backbone is not set: give the Hugging Face folder or hub id that the experts were tuned on")
    trusted = node.get("trust_remote_code", False)
    if isinstance(node["path"], Mapping | list) or not isinstance(trusted, bool):
        raise ConfigError(
            f"backbone={value!r}: expected a folder or hub id, or {{path: FOLDER, trust_remote_code: true or false}}"
        )
    return kind(**{**node, "path": str(node["path"]), "trust_remote_code": trusted})
