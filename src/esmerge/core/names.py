"""What the names of adapted modules say."""

from __future__ import annotations

from esmerge.core.errors import AdapterError


def layer_of(module: str) -> int:
    """Decoder layer that a module belongs to: the first number in its path.

    Raises:
        AdapterError: the path holds no layer number.
    """
    for part in module.split("."):
        if part.isdigit():
            return int(part)
    raise AdapterError(f"module {module!r} has no layer number in its path: only decoder layers can be merged")
