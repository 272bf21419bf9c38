"""The streaming writer, read back by the safetensors library."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from esmerge.core.errors import AdapterError, StoreError
from esmerge.core.lazy import LazyMapping
from esmerge.storage.tensor_format import read_spans
from esmerge.storage.tensor_stream import FORMATS, TensorFile, write_tensors

SHAPES = st.one_of(st.tuples(), st.tuples(st.integers(0, 5)), st.tuples(st.integers(0, 5), st.integers(0, 5)))
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(sorted(FORMATS, key=str))), max_size=6))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, layouts: dict) -> None:
    path = tmp_path_factory.mktemp("file") / "tensors.safetensors"
    tensors = {name: torch.randn(shape).to(dtype) for name, (shape, dtype) in layouts.items()}
    write_tensors(path, tensors)
    contents = load_file(path)
    assert set(contents) == set(tensors)
    for name, tensor in tensors.items():
        assert contents[name].dtype == tensor.dtype and torch.equal(contents[name], tensor)


def test_tensors_that_are_not_contiguous_or_need_a_gradient(tmp_path: Path) -> None:
    matrix = torch.arange(12.0).reshape(3, 4)
    write_tensors(
        tmp_path / "t", {"turned": matrix.T, "part": matrix[:, 1:3], "learnt": matrix.clone().requires_grad_()}
    )
    contents = load_file(tmp_path / "t")
    assert torch.equal(contents["turned"], matrix.T) and torch.equal(contents["part"], matrix[:, 1:3])
    assert torch.equal(contents["learnt"], matrix)


def test_each_tensor_is_asked_for_once_and_starts_where_readers_want_it(tmp_path: Path) -> None:
    calls: list[str] = []

    def make(name: str) -> Tensor:
        calls.append(name)
        return torch.ones(3)

    write_tensors(tmp_path / "t", LazyMapping(["b", "a"], make))
    assert calls == ["b", "a"]
    raw = (tmp_path / "t").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0 and json.loads(raw[8 : 8 + length])["a"]["data_offsets"] == [12, 24]
    with safe_open(tmp_path / "t", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    references: list[weakref.ref[Tensor]] = []
    most = 0

    def make(name: str) -> Tensor:
        nonlocal most
        tensor = torch.ones(4)
        references.append(weakref.ref(tensor))
        most = max(most, sum(reference() is not None for reference in references))
        return tensor

    write_tensors(tmp_path / "t", LazyMapping("abcdef", make))
    assert len(references) == 6 and most <= 2, "the last one is dropped when the next is there"


@pytest.mark.parametrize("tensor", [torch.ones(2, dtype=torch.int8), torch.ones(2, 2, 2)])
def test_what_no_adapter_holds_is_refused(tensor: Tensor, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="odd is .* expected a matrix or vector of floats"):
        write_tensors(tmp_path / "t", {"odd": tensor})


def test_a_file_whose_writer_failed_is_none(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), TensorFile(tmp_path / "t", ["a", "b"], dimensions=1) as file:
        file.append("a", torch.ones(3))
        raise RuntimeError
    with pytest.raises(StoreError, match="t is not a safetensors file"):
        read_spans(tmp_path / "t")


def test_tensors_written_whole_and_in_pieces_share_a_file(tmp_path: Path) -> None:
    with TensorFile(tmp_path / "t", ["whole", "segments"], dimensions=3) as file:
        file.append("whole", torch.arange(3).double())
        file.reserve({"segments": (2, 1, 2)})
        span = file.spans["segments"]
        file.write(span.start + 8, np.float32([3, 4]))
        assert file.read(span.start, span.stop).tolist() == [0, 0, 3, 4]
    contents = load_file(tmp_path / "t")
    assert torch.equal(contents["whole"], torch.arange(3).double())
    assert torch.equal(contents["segments"], torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]))
    assert read_spans(tmp_path / "t") == file.spans


def test_a_name_that_no_room_was_kept_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are kept for it"), TensorFile(tmp_path / "t", [], dimensions=2) as file:
        file.append("unannounced", torch.ones(2, 2))
