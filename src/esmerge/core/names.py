"""What the names of adapted modules say, and which names may become those of files."""

from __future__ import annotations

import unicodedata

from esmerge.core.errors import AdapterError, ConfigError

LONGEST = 100  # bytes of a name that a file is named after, which takes endings besides; file systems allow 255


def layer_of(module: str) -> int:
    """Decoder layer that a module belongs to: the first number in its path.

    Raises:
        AdapterError: the path holds no layer number.
    """
    for part in module.split("."):
        if part.isdigit():
            return int(part)
    raise AdapterError(f"module {module!r} has no layer number in its path: only decoder layers can be merged")


def check_name(name: str, setting: str) -> None:
    """Refuse a name that cannot be a file's: results are stored under it.

    Args:
        setting: whose value it is, for the message.

    Raises:
        ConfigError: it is empty or too long, begins with a dot, or holds a slash or a control character.
    """
    unfit = {letter for letter in name if letter in "/\\" or unicodedata.category(letter) in ("Cc", "Cs")}
    if unfit or not 0 < len(name.encode("utf-8", "replace")) <= LONGEST or name.startswith("."):
        excerpt = name if len(name) <= LONGEST else f"{name[:20]}…"
        raise ConfigError(
            f"{setting}={excerpt!r}: results are stored in files of this name: expected 1 to {LONGEST} bytes, without "
            "slashes and control characters, and no dot at the start"
        )
