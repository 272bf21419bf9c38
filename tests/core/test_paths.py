from __future__ import annotations

import ast
from pathlib import Path

import pytest

from esmerge.core.errors import ConfigError
from esmerge.core.paths import PACKAGE, user_path

READERS = {"open": 0, "read_text": 0, "write_text": 1}  # method of a path -> arguments before the encoding


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/x", "cache") == Path("/home/me/x") and user_path("a~/b", "cache") == Path("a~/b")


def test_a_home_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="cache=~nobody-here/x: no such home folder: give the whole path, or ./~"):
        user_path("~nobody-here/x", "cache")


def in_the_locales_encoding(path: Path) -> list[str]:
    """Calls that read or write text in whatever encoding the locale has."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in READERS and not _is_said(call)
    ]


def _is_said(call: ast.Call) -> bool:
    words = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    binary = any(isinstance(word, str) and word.endswith("b") for word in words)
    of_a_library = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
    of_gzip = of_a_library and call.func.value.id == "gzip" and len(call.args) == 1  # which is binary by default
    archive = of_a_library and call.func.value.id in ("archive", "os")
    return binary or of_gzip or archive or any(keyword.arg == "encoding" for keyword in call.keywords)


def test_no_file_is_read_or_written_in_the_locales_encoding() -> None:
    assert [call for path in sorted(PACKAGE.rglob("*.py")) for call in in_the_locales_encoding(path)] == []
