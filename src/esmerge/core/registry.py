"""One mechanism for everything a config can name: merges, floors, benchmarks, probes, specialists.

A module in the registry's folder registers a function under its config name, with a dataclass of its settings and,
where the kind has one, a typed record of what it is. The dataclass is the schema: its field names and types are what
the config file may say. Adding an entry is adding a file; nothing else lists the names. Installed packages add entries
through the entry point group of the registry: each entry point names a module that registers itself when imported.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from esmerge.core.errors import ConfigError

Info = TypeVar("Info")
Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Entry(Generic[Info]):
    """A registered function.

    Attributes:
        name: its config name.
        function: what it does.
        settings: dataclass of its settings.
        info: what it is, e.g. its title and its source.
    """

    name: str
    function: Callable[..., Any]
    settings: type
    info: Info


class Registry(Generic[Info]):
    """Entries of one kind, found by importing every module of a folder and every plug-in.

    Args:
        kind: what an entry is called in error messages, e.g. ``"merge"``.
        package: dotted name of the package whose modules register themselves.
        plugins: entry point group of other packages, e.g. ``"esmerge.merges"``; None if there are none.
        settings: what the settings of every entry derive from: the contract that the rest of the program relies on.
    """

    def __init__(self, kind: str, package: str, plugins: str | None = None, settings: type = object) -> None:
        self.kind, self.package, self.plugins, self.settings = kind, package, plugins, settings
        self._entries: dict[str, Entry[Info]] = {}
        self._imported = False

    def register(
        self,
        name: str,
        settings: type,
        info: Info = None,  # type: ignore[assignment]  # kinds without a record
    ) -> Callable[[Function], Function]:
        """Return a decorator that files a function under ``name``.

        Raises:
            ValueError: the name is taken.
            TypeError: the settings do not derive from what the settings of this kind must offer.
        """
        if not issubclass(settings, self.settings):
            base = f"{self.settings.__module__}.{self.settings.__name__}"
            raise TypeError(f"{self.kind} {name!r}: its settings {settings.__name__} must derive from {base}")

        def decorate(function: Function) -> Function:
            existing = self._entries.get(name)
            if existing is not None and existing.function.__module__ != function.__module__:
                raise ValueError(f"{self.kind} {name!r} is registered by {existing.function.__module__} already")
            self._entries[name] = Entry(name, function, settings, info)
            return function

        return decorate

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._import_all()
        return sorted(self._entries)

    def get(self, name: str) -> Entry[Info]:
        """The entry called ``name``; raises ``ConfigError`` naming what there is."""
        self._import_all()
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}: expected one of {', '.join(self.names())}")
        return self._entries[name]

    def modules(self) -> list[ModuleType]:
        """The package and all of its modules, helpers of the entries among them; sorted by name."""
        self._import_all()
        names = (name for name in sys.modules if name == self.package or name.startswith(f"{self.package}."))
        return [sys.modules[name] for name in sorted(names)]

    def _import_all(self) -> None:
        if self._imported:
            return
        self._imported = True  # first, since a module may ask for names while it is imported
        try:
            package = importlib.import_module(self.package)
            for module in pkgutil.walk_packages(package.__path__, f"{self.package}."):
                importlib.import_module(module.name)
            for plugin in entry_points(group=self.plugins) if self.plugins else ():
                self._import_plugin(plugin)
        except BaseException:
            self._imported = False  # half a list would name the wrong choices
            raise

    def _import_plugin(self, plugin: EntryPoint) -> None:
        try:
            importlib.import_module(plugin.module)
        except Exception as error:
            owner = f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist else "a package without a name"
            raise ConfigError(
                f"{self.kind} {plugin.name!r} of the installed package {owner} cannot be used ({plugin.group}: "
                f"{plugin.value}): {type(error).__name__}: {error}; repair the package or uninstall it"
            ) from error
