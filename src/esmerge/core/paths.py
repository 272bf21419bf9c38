"""Where the program's own files lie, in a checkout and in an installed wheel: configs, published figures, weights."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]  # of an editable install; elsewhere of no meaning
IN_CHECKOUT = not (PACKAGE / "conf").exists()  # which only a wheel has there


def _shipped(inside: Path, checkout: Path) -> Path:
    """What the wheel holds inside the package, or what a checkout holds at its top."""
    return inside if inside.exists() else checkout


CONF = _shipped(PACKAGE / "conf", CHECKOUT / "conf")
PUBLISHED = _shipped(PACKAGE / "published.csv", CHECKOUT / "benchmarks" / "published.csv")
WEIGHTS = _shipped(PACKAGE / "weights", CHECKOUT / "benchmarks" / "specialists")  # <family>/seed<N>
