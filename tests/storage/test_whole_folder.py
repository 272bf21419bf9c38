"""Folders are there whole or not at all, whenever their writer is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from esmerge.adapters.lora import LoraFactors, LoraState
from esmerge.adapters.peft_folder import load_adapter, save_adapter
from esmerge.storage.whole_folder import whole_folder

FORK = multiprocessing.get_context("fork")
MODULES = [f"base_model.model.model.layers.{layer}.q_proj" for layer in range(6)]


def adapter(value: float) -> LoraState:
    factors = LoraFactors(torch.full((2, 64), value), torch.full((64, 2), value), 1.0)
    return LoraState(dict.fromkeys(MODULES, factors))


def test_a_link_leads_to_the_folder_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "out")
    for value in (1.0, 2.0):  # the link dangles, then leads to a folder
        save_adapter(adapter(value), tmp_path / "link")
        assert load_adapter(tmp_path / "link", "a").modules[MODULES[0]].a[0, 0] == value
    assert (tmp_path / "link").is_symlink() and [path.name for path in (tmp_path / "disk").iterdir()] == ["out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def write_for_ever(folder: Path) -> None:
    for number in range(10**6):
        save_adapter(adapter(float(number)), folder)


def test_a_writer_killed_at_any_moment_leaves_a_whole_adapter_or_none(tmp_path: Path) -> None:
    folder, moments = tmp_path / "place" / "out", random.Random(0)
    count = 0
    for _ in range(25):
        writer = FORK.Process(target=write_for_ever, args=(folder,))
        writer.start()
        time.sleep(moments.uniform(0.005, 0.08))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        if folder.exists():
            count += 1
            layers = load_adapter(folder, "out").modules
            assert list(layers) == MODULES
            assert len({float(value) for layer in layers.values() for value in layer.a.unique()}) == 1, "of one writing"
    assert count > 5
    save_adapter(adapter(-1.0), folder)
    assert [path.name for path in folder.parent.iterdir()] == ["out"], "what the killed left is removed"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    save_adapter(adapter(1.0), tmp_path / "out")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out") as partial:
        (partial / "half").write_text("written")
        raise RuntimeError
    assert float(load_adapter(tmp_path / "out", "out").modules[MODULES[0]].a[0, 0]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_stepped_aside_comes_back(tmp_path: Path) -> None:
    save_adapter(adapter(1.0), tmp_path / "out")
    stem = f".out.{'0' * 32}"
    (tmp_path / "out").rename(tmp_path / f"{stem}.old")
    (tmp_path / f"{stem}.partial").mkdir()
    (tmp_path / f"{stem}.lock").touch()
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_living_writer_fills_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".out.{'0' * 32}.partial"
    other.mkdir()
    with FileLock(other.with_suffix(".lock")):
        save_adapter(adapter(1.0), tmp_path / "out")
        assert other.is_dir()


def test_folders_whose_names_begin_alike_do_not_touch_each_other(tmp_path: Path) -> None:
    other = tmp_path / f".out.v2.{'0' * 32}.partial"
    other.mkdir()
    other.with_suffix(".lock").touch()
    save_adapter(adapter(1.0), tmp_path / "out")
    assert other.is_dir()
