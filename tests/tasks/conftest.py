"""Writing small tables and asking for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esmerge.tasks.api import Request


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a table under the test's root."""

    def writer(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return writer


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Request]:
    """A request on the test's root."""

    def asker(**changes: Any) -> Request:
        return Request(**{"name": "toy", "language": "english", "seed": 0, "root": str(tmp_path), **changes})

    return asker
