from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from esmerge.core.errors import StoreError
from esmerge.storage.tensor_arrays import TensorArrays


def test_arrays_are_what_torch_reads(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    tensors = {str(kind): torch.randn(3, 5, generator=draw).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(-0.1), "empty": torch.zeros(0, 4), "extremes": torch.tensor([torch.inf, -0.0])}
    save_file(tensors, tmp_path / "t.safetensors", metadata={"format": "pt"})
    arrays, expected = TensorArrays(tmp_path / "t.safetensors"), load_file(tmp_path / "t.safetensors")
    assert set(arrays) == set(expected) and len(arrays) == 7
    for name, tensor in expected.items():
        assert arrays[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(arrays[name].astype(np.float64), tensor.double().numpy())


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_sample_holds_blocks_of_consecutive_entries(kind: torch.dtype, tmp_path: Path) -> None:
    values = torch.arange(256).repeat(40).reshape(80, 128).to(kind)  # whole numbers to 256 are exact in bfloat16
    save_file({"before": torch.zeros(3), "values": values}, tmp_path / "t.safetensors")
    arrays = TensorArrays(tmp_path / "t.safetensors")
    drawn = arrays.sample("values", blocks=10, length=8).reshape(10, 8)
    assert set(np.diff(drawn.astype(int), axis=1).ravel() % 256) == {1}
    np.testing.assert_array_equal(drawn.ravel(), arrays.sample("values", blocks=10, length=8))
    np.testing.assert_array_equal(arrays.sample("values", blocks=1280, length=8), arrays["values"].ravel())


def test_whole_numbers_are_refused_by_name(tmp_path: Path) -> None:
    save_file({"counts": torch.arange(3)}, tmp_path / "t.safetensors")
    with pytest.raises(StoreError, match="t.safetensors: counts is I64, expected one of F64, F32, F16, BF16"):
        TensorArrays(tmp_path / "t.safetensors")["counts"]


@pytest.mark.parametrize("content", [b"", b"\x05\0\0\0\0\0\0\0nojson", b"\xff" * 40])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match="t.safetensors is not a safetensors file"):
        TensorArrays(tmp_path / "t.safetensors")
