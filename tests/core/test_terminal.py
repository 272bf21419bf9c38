from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from rich.panel import Panel

from esmerge.core.terminal import show_everywhere


@pytest.fixture(params=["ascii", "latin-1", "utf-8"])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.TextIOWrapper:
    """Standard output of a terminal with this encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=request.param, newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    show_everywhere()
    return stream


def screen_text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(stream.encoding)


def test_letters_that_the_terminal_lacks_are_replaced(screen: io.TextIOWrapper) -> None:
    print("drug–drug 70.0 ± 2.9 … “größe” λ ☃ \udcff", file=screen)
    expected = {
        "ascii": 'drug-drug 70.0 +- 2.9 ... "grosse" lambda \\u2603 \\udcff\n',
        "latin-1": 'drug-drug 70.0 ± 2.9 ... "größe" lambda \\u2603 \\udcff\n',
        "utf-8": "drug–drug 70.0 ± 2.9 … “größe” λ ☃ \\udcff\n",
    }
    assert screen_text(screen) == expected[screen.encoding]


def test_frames_are_drawn_on_every_terminal(screen: io.TextIOWrapper) -> None:
    Console(file=screen).print(Panel("points [+0.0, +8.3] – not significant", title="Verdict"))
    assert "Verdict" in screen_text(screen) and "not significant" in screen_text(screen)
