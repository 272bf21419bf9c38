from __future__ import annotations

import pytest

from esmerge.core.lazy import LazyMapping


def test_values_are_made_when_they_are_asked_for() -> None:
    calls: list[str] = []

    def make(name: str) -> int:
        calls.append(name)
        return len(name)

    lazy = LazyMapping(["one", "three", "one"], make)
    assert list(lazy) == ["one", "three"] and len(lazy) == 2 and "one" in lazy and "two" not in lazy
    assert calls == []
    assert dict(lazy) == {"one": 3, "three": 5} and lazy["one"] == 3
    assert calls == ["one", "three", "one"]
    with pytest.raises(KeyError):
        lazy["two"]
