"""From composed config nodes to typed settings: a wrong name or value fails here, before a model loads."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from esmerge.core.errors import ConfigError
from esmerge.core.names import check_name
from esmerge.core.registry import Entry, Registry

Settings = TypeVar("Settings")
QUOTE = "expected text, quote it: YAML reads no, yes, on and off as false and true, and digits as a number"


@dataclass(frozen=True)
class Selection:
    """One config group's choice: the registered entry and its settings."""

    name: str
    entry: Entry[Any]
    settings: Any


def choose(registry: Registry[Any], node: Mapping[str, object], path: str) -> Selection:
    """The registry entry that a config group's ``name`` (or ``kind``) chooses, with its typed settings."""
    name = node.get("kind", node.get("name"))
    if name is None:
        raise ConfigError(f"{path} has no name: expected one of {', '.join(registry.names())}")
    entry = registry.get(str(name))
    settings: object = typed(entry.settings, node, path, dropped=("name", "kind"))
    check_name(str(node.get("name", name)), f"{path}.name")
    return Selection(str(node.get("name", name)), entry, settings)


def typed(schema: type[Settings], node: Mapping[str, object], path: str, dropped: Iterable[str] = ()) -> Settings:
    """``node`` as an instance of the dataclass ``schema``.

    Fields are values, or settings of their own: a dataclass, or a dictionary of dataclasses.

    Args:
        path: where the node stands in the config, for messages.
        dropped: keys that are not settings.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range, or a missing one.
    """
    settings = {key: value for key, value in node.items() if key not in set(dropped)}
    return typing.cast(Settings, _filled(schema, settings, path))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config as dictionaries and lists."""
    return typing.cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def _filled(schema: type, node: Mapping[str, object], path: str, base: object = None) -> object:
    """The values of ``node`` on top of the values of ``base``, or of the schema's own defaults."""
    fields = _fields(schema)
    for key in node:
        if key not in fields:
            raise ConfigError(f"{path}.{key} is not a setting: expected one of {', '.join(fields)}")
    values = _values(schema, node, path, base)
    for name, inner in _inner_schemas(schema).items():
        start = _default(fields[name]) if base is None else getattr(base, name)
        value = node.get(name, MISSING)
        if value == MISSING and start is dataclasses.MISSING:
            raise ConfigError(f"{path}.{name} must be given")
        value = {} if value == MISSING else value
        if dataclasses.is_dataclass(_hints(schema)[name]):
            values[name] = _nested(inner, value, path, name, None if start is dataclasses.MISSING else start)
        else:
            defaults = typing.cast(Mapping[str, object], {} if start is dataclasses.MISSING else start)
            values[name] = _entries(inner, value, path, name, defaults)
    try:
        return schema(**values)
    except TypeError as error:  # a check met a value that cannot be compared, such as a list where a number belongs
        raise ConfigError(f"{path}: {error}") from error


def _nested(schema: type, value: object, path: str, name: str, base: object = None) -> object:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{path}: {name}={value!r} is of type {type(value).__name__}, expected the settings of {schema.__name__}: "
            f"{', '.join(_fields(schema))}"
        )
    return _filled(schema, value, f"{path}.{name}", base)


def _entries(schema: type, value: object, path: str, name: str, base: Mapping[str, object]) -> dict[str, object]:
    """A dictionary of settings: entries of ``value`` on top of those of ``base`` with the same name."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}.{name}={value!r}: expected names, each with the settings of {schema.__name__}")
    entries = {key: _nested(schema, entry, f"{path}.{name}", key, base.get(key)) for key, entry in value.items()}
    return {**base, **entries}


def _values(schema: type, node: Mapping[str, object], path: str, base: object) -> dict[str, object]:
    """The fields that hold no settings of their own, with their types checked and converted by OmegaConf."""
    flat = _flat(schema)
    start = flat if base is None else flat(**{name: getattr(base, name) for name in _fields(flat)})
    flat_values = {key: value for key, value in node.items() if key in _fields(flat)}
    for name, value in flat_values.items():
        _check_quoted(value, _hints(schema)[name], f"{path}.{name}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(start), flat_values)
        return typing.cast(dict[str, object], OmegaConf.to_container(merged, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{path}.{error.full_key or error.key} must be given") from error
    except OmegaConfBaseException as error:
        where = ".".join(str(part) for part in (path, error.full_key or error.key) if part is not None)
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}") from error


def _check_quoted(value: object, hint: object, where: str) -> None:
    """Raise ``ConfigError`` where text belongs and YAML read a word as true or false, or a key as a number."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [part for part in parts if part is not types.NoneType]
        if len(others) == 1:  # of several kinds, another one may fit
            _check_quoted(value, others[0], where)
    elif typing.get_origin(hint) is list and isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check_quoted(item, parts[0], f"{where}[{position}]")
    elif typing.get_origin(hint) is dict and isinstance(value, Mapping):
        for key, item in value.items():
            if parts[0] is str and not isinstance(key, str):
                raise ConfigError(f"{where} has the key {key!r}: {QUOTE}")
            _check_quoted(item, parts[1], f"{where}.{key}")
    elif hint is str and isinstance(value, bool):
        raise ConfigError(f"{where}={value!r}: {QUOTE}")


@cache
def _flat(schema: type) -> type:
    """A schema's fields that hold no settings of their own; not frozen, since OmegaConf could not fill it in."""
    hints, inner = _hints(schema), _inner_schemas(schema)
    return dataclasses.make_dataclass(
        schema.__name__,
        [(name, hints[name], _copied(item)) for name, item in _fields(schema).items() if name not in inner],
    )


def _copied(item: dataclasses.Field[object]) -> object:
    """A field with the same default; ``MISSING`` where there is none."""
    if item.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=item.default_factory)
    return dataclasses.field(default=MISSING if item.default is dataclasses.MISSING else item.default)


def _default(item: dataclasses.Field[object]) -> object:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


@cache
def _inner_schemas(schema: type) -> dict[str, type]:
    """Field -> dataclass, of the fields that hold settings of their own or a dictionary of such."""
    inner_schemas = {}
    for name in _fields(schema):
        hint = _hints(schema)[name]
        inner = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else hint
        if dataclasses.is_dataclass(inner):
            inner_schemas[name] = inner
    return typing.cast(dict[str, type], inner_schemas)


@cache
def _hints(schema: type) -> dict[str, object]:
    return typing.get_type_hints(schema)


def _fields(schema: type) -> dict[str, dataclasses.Field[object]]:
    return {item.name: item for item in dataclasses.fields(schema)}
