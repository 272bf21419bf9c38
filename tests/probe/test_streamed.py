"""Signals that stream to disk beside the computation, and a probe whose passes find no room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from esmerge.probe.execution import DEFAULT, ON_GPU, SMALLEST, Execution, in_smaller_passes, suited
from esmerge.probe.signal_file import SignalFile
from esmerge.probe.store import MemoryStore
from esmerge.probe.streamed import ROWS_AT_ONCE, StreamedStore

CPU = torch.device("cpu")
SHAPES = {"response": (3, 2000, 2), "first": (2, 2), "second": (7,)}


def fill(stores: list[MemoryStore | StreamedStore], rows: int = 2) -> None:
    generator = torch.Generator().manual_seed(0)
    for start in range(0, 2000, rows):
        for block in range(3):
            values = torch.randn(rows, 2, generator=generator)
            for store in stores:
                store.write_rows("response", block, start, values)
        values = [torch.randn(SHAPES[name], generator=generator) for name in ("first", "second")]
        for store in stores:
            store.add(["first", "second"], values)


def test_a_streamed_file_holds_what_memory_would(tmp_path: Path) -> None:
    memory, path = MemoryStore(SHAPES, CPU), tmp_path / "signals.safetensors"
    with SignalFile(path, SHAPES) as file, StreamedStore(file, SHAPES, CPU) as streamed:
        fill([memory, streamed])
    assert 4 * ROWS_AT_ONCE < 3000  # several lots wait for the disk
    tensors = load_file(path)
    assert all(torch.equal(tensors[name], value) for name, value in memory.finished().items())


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(OSError, match="No space left"),
        SignalFile(tmp_path / "x", SHAPES) as file,
        StreamedStore(file, SHAPES, CPU) as streamed,
    ):
        monkeypatch.setattr(file, "write_rows", full)
        fill([streamed])


def test_passes_that_find_no_room_are_halved(capsys: pytest.CaptureFixture[str]) -> None:
    positions: list[int] = []

    def read(execution: Execution) -> str:
        positions.append(execution.positions)
        if execution.positions > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "read"

    assert in_smaller_passes(read, DEFAULT) == "read"
    assert positions == [1024, 512, 256]
    assert "the probe is read again, 256 positions a pass" in capsys.readouterr().err


def test_where_small_passes_do_not_help_the_error_passes() -> None:
    def read(execution: Execution) -> None:
        assert execution.positions >= SMALLEST
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_smaller_passes(read, DEFAULT)


def test_block_sizes_suit_the_device() -> None:
    assert suited(CPU) == DEFAULT
    assert suited(torch.device("cuda")) == ON_GPU
