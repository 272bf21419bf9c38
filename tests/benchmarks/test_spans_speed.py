"""The measurement of span regression on disk, at shapes that take seconds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from benchmarks.speed.inputs import Adapters
from benchmarks.speed.spans import every_layer, invent, main, merge_folder

from esmerge.adapters.peft_folder import load_adapter
from esmerge.calibration.stored import load_statistics

ADAPTERS = Adapters("tiny", 2, 3, 2, "bfloat16")


def test_one_layers_inputs_stand_for_all(tmp_path: Path) -> None:
    invent(tmp_path, ADAPTERS, tokens=5)
    statistics = every_layer(load_statistics(tmp_path, whole=0), ADAPTERS)
    for tensors in statistics.values():
        assert list(tensors) == list(ADAPTERS.modules())
        assert all(tensors[module].shape == (5, shape[1]) for module, shape in ADAPTERS.modules().items())
    merge_folder(tmp_path, ADAPTERS, threads=torch.get_num_threads())
    merged = load_adapter(tmp_path / "merged", "merged")
    assert {factors.rank for factors in merged.modules.values()} == {6}


def test_the_line_says_what_was_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--shapes", "tiny", "--rank", "2", "--tokens", "4", "--layers", "1", "--folder", str(tmp_path)]
    assert main(argv) == 0
    line = capsys.readouterr().out
    assert re.search(r"3 adapters of rank 2, 4 tokens each, 1 of 2 layers, 2 threads: -?\d+ s on the clock", line)
    assert not list(tmp_path.iterdir())
