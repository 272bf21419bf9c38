"""Figures as parts of the page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FORMS = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class PageFigure:
    """A picture as a ``data:`` address, and what it shows."""

    name: str
    caption: str
    address: str


def page_figures(paths: tuple[Path, ...], captions: Mapping[str, str]) -> list[PageFigure]:
    """The smaller file of each figure, drawn in vectors or in pixels."""
    files = {name: [path for path in paths if path.stem == name and path.suffix in FORMS] for name in captions}
    smallest = {name: min(several, key=lambda path: path.stat().st_size) for name, several in files.items() if several}
    return [PageFigure(name, captions[name], _address(path)) for name, path in smallest.items()]


def _address(path: Path) -> str:
    return f"data:{FORMS[path.suffix]};base64,{b64encode(path.read_bytes()).decode()}"
