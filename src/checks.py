"""Range checks that settings dataclasses share; they run when a config is read, before a model loads."""

from __future__ import annotations

from typing import Any

from src.errors import ConfigError


def at_least(settings: Any, path: str, bound: float, *names: str) -> None:
    """Raise ``ConfigError`` unless each named field is None or a finite number from ``bound``."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not bound <= value < float("inf"):
            raise ConfigError(f"{path}.{name}={value}: expected a number from {bound:g}")


def above_zero(settings: Any, path: str, *names: str) -> None:
    """Raise ``ConfigError`` unless each named field is a finite number above 0."""
    for name in names:
        if not 0 < getattr(settings, name) < float("inf"):
            raise ConfigError(f"{path}.{name}={getattr(settings, name)}: expected a number above 0")


def shares(settings: Any, path: str, *names: str) -> None:
    """Raise ``ConfigError`` unless each named field lies in [0, 1]."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ConfigError(f"{path}.{name}={getattr(settings, name)}: expected a share from 0 to 1")
