"""Paths: of the program's own files (configs, published figures, weights), in a checkout and in a wheel, and users'."""

from __future__ import annotations

from pathlib import Path

from esmerge.core.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]  # of an editable install; elsewhere of no meaning
IN_CHECKOUT = not (PACKAGE / "conf").exists()  # which only a wheel has there


def _shipped(inside: Path, checkout: Path) -> Path:
    """What the wheel holds inside the package, or what a checkout holds at its top."""
    return inside if inside.exists() else checkout


CONF = _shipped(PACKAGE / "conf", CHECKOUT / "conf")
PUBLISHED = _shipped(PACKAGE / "published.csv", CHECKOUT / "benchmarks" / "published.csv")
WEIGHTS = _shipped(PACKAGE / "weights", CHECKOUT / "benchmarks" / "specialists")  # <family>/seed<N>


def user_path(text: str | Path, setting: str) -> Path:
    """A path as users type it, with ``~`` and ``~name`` as the home folder.

    Args:
        setting: whose value it is, for the message.

    Raises:
        ConfigError: there is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{setting}={text}: no such home folder: give the whole path, or ./{text} for a folder named so"
        ) from error
