"""From composed config nodes to typed settings: a wrong name or value fails here, before a model loads."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from esmerge.core.errors import ConfigError
from esmerge.core.registry import Entry

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Selection:
    """One config group's choice: the registered entry and its settings."""

    name: str
    entry: Entry[Any]
    settings: Any


def choose(registry: Any, node: Mapping[str, Any], path: str) -> Selection:
    """The registry entry that a config group's ``name`` (or ``kind``) chooses, with its typed settings."""
    name = node.get("kind", node.get("name"))
    if name is None:
        raise ConfigError(f"{path} has no name: expected one of {', '.join(registry.names())}")
    entry = registry.get(name)
    settings = typed(entry.settings, node, path, dropped=("name", "kind"))
    return Selection(str(node.get("name", name)), entry, settings)


def typed(schema: type[Settings], node: Mapping[str, Any], path: str, dropped: Iterable[str] = ()) -> Settings:
    """``node`` as an instance of the dataclass ``schema``.

    Args:
        path: where the node stands in the config, for messages.
        dropped: keys that are not settings.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range, or a missing one.
    """
    given = {key: value for key, value in node.items() if key not in set(dropped)}
    try:
        config = OmegaConf.structured(schema)
        _unlock(config, given)
        merged = OmegaConf.merge(config, given)
        return typing.cast(Settings, OmegaConf.to_object(merged))
    except (ConfigKeyError, ConfigAttributeError) as error:
        key = error.full_key or error.key
        holder: Any = error.object_type if dataclasses.is_dataclass(error.object_type) else schema
        allowed = ", ".join(f.name for f in dataclasses.fields(holder))
        raise ConfigError(f"{path}.{key} is not a setting: expected one of {allowed}") from error
    except MissingMandatoryValue as error:
        raise ConfigError(f"{path}.{error.full_key or error.key} must be given") from error
    except OmegaConfBaseException as error:
        where = ".".join(str(part) for part in (path, error.full_key or error.key) if part is not None)
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as dictionaries and lists."""
    return typing.cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def _unlock(config: Any, given: Any) -> None:
    """Frozen dataclasses make read-only nodes; what is read from them may still be filled in.

    The entries of a dictionary of dataclasses are made here, since the merge would make them read-only.
    """
    OmegaConf.set_readonly(config, False)
    entry = config._metadata.element_type
    if dataclasses.is_dataclass(entry) and isinstance(given, Mapping):
        for key in given:
            config.setdefault(key, OmegaConf.structured(entry))
    for key in config:
        inner = given.get(key) if isinstance(given, Mapping) else None
        if OmegaConf.is_missing(config, key) and isinstance(config._get_node(key), DictConfig) and inner is not None:
            config[key] = {}
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            _unlock(config[key], inner)
