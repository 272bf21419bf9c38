"""What a training recorded, as lines for a reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

INDENT = "  "


def recorded_lines(name: str, value: object, depth: int = 1) -> Iterator[str]:
    """``name: value``, a mapping's entries on lines of their own below it, an exam's figures in one line."""
    start = INDENT * depth
    if not isinstance(value, Mapping):
        yield f"{start}{_words(name)}: {_figure(value)}"
    elif "accuracy" in value:
        yield f"{start}{_words(name)}: {_exam(value)}"
    else:
        yield f"{start}{_words(name)}:"
        for key, inner in value.items():
            yield from recorded_lines(str(key), inner, depth + 1)


def _exam(figures: Mapping[str, object]) -> str:
    """Accuracy with its interval in %, and what else was counted."""
    shares = {key: figures[key] for key in ("accuracy", "low", "high") if key in figures}
    accuracy, *bounds = (f"{100 * value:.1f}" if isinstance(value, int | float) else "–" for value in shares.values())
    interval = f" [{', '.join(bounds)}]" if bounds else ""
    counts = [f"{_words(key)} {_figure(value)}" for key, value in figures.items() if key not in shares]
    return "; ".join([f"{accuracy} %{interval}", *counts])


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
