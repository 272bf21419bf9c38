"""One handle while a file is kept open, a new one when much was read, none afterwards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from esmerge.adapters import reader
from esmerge.adapters.reader import TensorReader


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A file of three tensors of 400 bytes, and what was done with handles on it."""
    events: list[str] = []

    class Handle:
        def __init__(self, path: Path, framework: str) -> None:
            self.inner = original(path, framework=framework)

        def __enter__(self) -> Any:
            events.append("open")
            return self.inner.__enter__()

        def __exit__(self, *error: Any) -> Any:
            events.append("close")
            return self.inner.__exit__(*error)

    original = reader.safe_open
    monkeypatch.setattr(reader, "safe_open", Handle)
    path = tmp_path / "file.safetensors"
    save_file({name: torch.full((100,), float(number)) for number, name in enumerate("abc")}, path)
    return path, events


def test_one_handle_is_kept_and_closed(opened: tuple[Path, list[str]]) -> None:
    path, events = opened
    file = TensorReader(path)
    with file.kept_open():
        assert events == []
        with file.kept_open():
            values = [float(tensor[0]) for name in "abcab" for tensor in file.read(name)]
        assert values == [0, 1, 2, 0, 1] and events == ["open"]
    assert events == ["open", "close"]
    with pytest.raises(RuntimeError, match="half way"), file.kept_open():
        file.read("a")
        raise RuntimeError("half way")
    assert events == ["open", "close"] * 2


def test_without_a_block_every_read_opens_and_closes(opened: tuple[Path, list[str]]) -> None:
    path, events = opened
    a, c = TensorReader(path).read("a", "c")
    assert (float(a[0]), float(c[-1])) == (0, 2) and events == ["open", "close"]


def test_a_new_handle_takes_over_after_so_many_bytes(opened: tuple[Path, list[str]]) -> None:
    path, events = opened
    file = TensorReader(path, at_once=800)
    with file.kept_open():
        first = file.read("a", "b")
        assert events == ["open"]
        file.read("c")
        assert events == ["open", "close", "open"]
        assert float(first[1][0]) == 1, "what was read stays"
    assert events == ["open", "close"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads the list of mapped files")
def test_nothing_stays_mapped(tmp_path: Path) -> None:
    path = tmp_path / "mapped.safetensors"
    save_file({"a": torch.ones(4)}, path)
    file = TensorReader(path)
    with file.kept_open():
        total = float(file.read("a")[0].sum())
        assert str(path) in Path("/proc/self/maps").read_text()
    assert total == 4 and str(path) not in Path("/proc/self/maps").read_text()
