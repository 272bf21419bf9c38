"""Range checks that settings dataclasses share; they run when a config is read, before a model loads."""

from __future__ import annotations

from collections.abc import Sequence

from esmerge.core.errors import ConfigError


def at_least(settings: object, path: str, bound: float, *names: str) -> None:
    """Raise ``ConfigError`` unless each named field is None or a finite number from ``bound``."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not bound <= value < float("inf"):
            raise ConfigError(f"{path}.{name}={value}: expected a number from {bound:g}")


def above_zero(settings: object, path: str, *names: str) -> None:
    """Raise ``ConfigError`` unless each named field is a finite number above 0."""
    for name in names:
        if not 0 < getattr(settings, name) < float("inf"):
            raise ConfigError(f"{path}.{name}={getattr(settings, name)}: expected a number above 0")


def shares(settings: object, path: str, *names: str) -> None:
    """Raise ``ConfigError`` unless each named field lies in [0, 1]."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ConfigError(f"{path}.{name}={getattr(settings, name)}: expected a share from 0 to 1")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ``ConfigError`` unless ``method.<name>`` is one of the allowed words."""
    if value not in allowed:
        raise ConfigError(f"method.{name}={value!r} must be one of {', '.join(allowed)}")


def check_positive(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``method.<name>`` is a finite number above 0."""
    if not 0 < value < float("inf"):
        raise ConfigError(f"method.{name}={value} must be greater than 0 and finite")


def check_fraction(name: str, value: float) -> None:
    """Raise ``ConfigError`` unless ``method.<name>`` lies in (0, 1]."""
    if not 0 < value <= 1:
        raise ConfigError(f"method.{name}={value} must be greater than 0 and at most 1")
