"""A file of signals that is filled segment by segment is a safetensors file with the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from esmerge.probe.signal_file import SignalFile, SignalReader
from esmerge.probe.store import MemoryStore

SHAPES = {"response": (2, 5, 3), "first": (2, 2), "second": (7,), "third": (1, 3)}


def test_pieces_on_disk_and_in_memory_add_up_to_the_same(tmp_path: Path) -> None:
    generator, path = torch.Generator().manual_seed(0), tmp_path / "signals.safetensors"
    memory = MemoryStore(SHAPES, torch.device("cpu"))
    with SignalFile(path, SHAPES) as file:
        for _ in range(3):
            values = [torch.randn(SHAPES[name], generator=generator) for name in ("first", "second", "third")]
            for store in (memory, file):
                store.add(["first", "second", "third"], values)
        for block, row, count in ((0, 0, 2), (1, 3, 2), (0, 4, 1)):
            rows = torch.randn(count, 3, generator=generator)
            for store in (memory, file):
                store.write_rows("response", block, row, rows)
    expected = memory.finished()
    tensors = load_file(path)
    assert set(tensors) == set(expected) and all(torch.equal(tensors[name], value) for name, value in expected.items())
    reader = SignalReader(path)
    assert list(reader) == list(SHAPES) and len(reader) == 4
    assert all(torch.equal(reader[name][:], value) for name, value in expected.items())
    assert torch.equal(reader["response"][1:2], expected["response"][1:2])
    assert reader["response"].shape == (2, 5, 3)


def test_a_file_that_the_library_wrote_is_read_too(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(4)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    reader = SignalReader(tmp_path / "x.safetensors")
    assert all(torch.equal(reader[name][:], value) for name, value in tensors.items())


def test_tensors_apart_are_not_added_to_as_one(tmp_path: Path) -> None:
    with (
        SignalFile(tmp_path / "x", SHAPES) as file,
        pytest.raises(ValueError, match="first to third do not stand next to each other"),
    ):
        file.add(["first", "third"], [torch.zeros(2, 2), torch.zeros(1, 3)])
