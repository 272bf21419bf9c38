"""How often, and where, the host waits for the device."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
MESSAGE = "called a synchronizing"  # CUDA operation: torch's warning


@contextmanager
def synchronisations() -> Iterator[Counter[str]]:
    """Count the synchronising operations of a block by the innermost line of this project that led to them."""
    counter: Counter[str] = Counter()

    def show(message: Warning | str, *details: Any, **keywords: Any) -> None:
        if MESSAGE in str(message):
            counter[_line()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield counter
        finally:
            torch.cuda.set_sync_debug_mode("default")


def _line() -> str:
    frames = [frame for frame in traceback.extract_stack() if _is_ours(Path(frame.filename))]
    inner = next(reversed(frames), None)
    if inner is None:
        return "elsewhere"
    return f"{Path(inner.filename).relative_to(ROOT)}:{inner.lineno} {inner.line or ''}".strip()


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts and path != Path(__file__)
