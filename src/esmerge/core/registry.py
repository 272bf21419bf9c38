"""One mechanism for everything a config can name: merges, benchmarks, probes, specialist sets.

A module in the registry's package registers a function under its config name together with a dataclass of its
settings. The dataclass is the schema: its field names and types are what the config file may say. Adding an entry is
adding a file; nothing else lists the names.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from esmerge.core.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """A registered function: its config name, its settings dataclass, and free facts such as a citation."""

    name: str
    function: Callable[..., Any]
    settings: type
    facts: Mapping[str, Any] = field(default_factory=dict)


class Registry:
    """Entries of one kind, found by importing every module of a package.

    Args:
        kind: what an entry is called in error messages, e.g. ``"merge"``.
        package: dotted name of the package whose modules register themselves.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry] = {}
        self._imported = False

    def register(self, name: str, settings: type, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that files a function under ``name``; raises ``ValueError`` if the name is taken."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            known = self._entries.get(name)
            if known is not None and known.function.__module__ != function.__module__:
                raise ValueError(f"{self.kind} {name!r} is registered by {known.function.__module__} already")
            self._entries[name] = Entry(name, function, settings, facts)
            return function

        return decorate

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._import_all()
        return sorted(self._entries)

    def get(self, name: str) -> Entry:
        """The entry called ``name``; raises ``ConfigError`` naming what there is."""
        self._import_all()
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}: expected one of {', '.join(self.names())}")
        return self._entries[name]

    def modules(self) -> list[ModuleType]:
        """The package and all of its modules, helpers of the entries among them; sorted by name."""
        self._import_all()
        found = (name for name in sys.modules if name == self.package or name.startswith(f"{self.package}."))
        return [sys.modules[name] for name in sorted(found)]

    def _import_all(self) -> None:
        if self._imported:
            return
        self._imported = True  # first, since a module may ask for names while it is imported
        try:
            package = importlib.import_module(self.package)
            for module in pkgutil.walk_packages(package.__path__, f"{self.package}."):
                importlib.import_module(module.name)
        except BaseException:
            self._imported = False  # half a list would name the wrong choices
            raise
