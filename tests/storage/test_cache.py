from __future__ import annotations

import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from esmerge.storage.cache import Cache, digest
from esmerge.storage.tensor_digest import tensors_digest

KEY = {"a": 1, "b": [0.5, "x"]}
PROCESSES = multiprocessing.get_context("fork")


def build_slowly(cache: Path, log: Path) -> None:
    def make(folder: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        (folder / "result").write_text("whole")

    assert (Cache(cache).folder("kind", KEY, make) / "result").read_text() == "whole"


def die_half_way(cache: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").touch()
        os._exit(9)

    Cache(cache).folder("kind", KEY, make)


def run(*processes: BaseProcess) -> list[int | None]:
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    return [process.exitcode for process in processes]


def test_work_is_done_once_per_key(tmp_path: Path) -> None:
    cache, calls = Cache(tmp_path), []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "result").write_text(str(len(calls)))

    first = cache.folder("kind", KEY, make)
    assert cache.folder("kind", {"b": [0.5, "x"], "a": 1}, make) == first == cache.path("kind", KEY)
    assert (first / "result").read_text() == "1"
    others = {cache.folder("kind", {**KEY, "a": 2}, make), cache.folder("other", KEY, make)}
    assert len(calls) == 3 and first not in others and len(others) == 2


def test_a_failing_make_leaves_nothing_but_its_checkpoints(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    scratch = cache.scratch("kind", KEY)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        scratch.mkdir()
        (scratch / "checkpoint").touch()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        cache.folder("kind", KEY, fail)
    assert {path.name for path in (tmp_path / "kind").iterdir()} <= {scratch.name, f"{digest(KEY)}.lock"}
    assert (scratch / "checkpoint").exists()
    stage = cache.folder("kind", KEY, lambda folder: (folder / "result").touch())
    assert (stage / "result").exists() and not (stage / "half").exists()
    assert not scratch.exists(), "checkpoints of finished work are removed"


def test_what_a_killed_process_left_is_cleared_and_never_taken_for_a_result(tmp_path: Path) -> None:
    assert run(PROCESSES.Process(target=die_half_way, args=(tmp_path,))) == [9]
    stage = Cache(tmp_path).folder("kind", KEY, lambda folder: (folder / "result").touch())
    assert {path.name for path in stage.iterdir()} == {"result", "key.json", "checksums.json"}
    assert {path.name for path in (tmp_path / "kind").iterdir()} <= {stage.name, f"{stage.name}.lock"}


def test_stages_are_made_again_once_and_the_old_one_stays_until_then(tmp_path: Path) -> None:
    def make(text: str) -> Callable[[Path], None]:
        def making(folder: Path) -> None:
            (folder / "result").write_text(text)

        return making

    def fail(folder: Path) -> None:
        raise RuntimeError("power cut")

    stage = Cache(tmp_path).folder("kind", KEY, make("old"))
    Cache(tmp_path).folder("other", KEY, make("old"))
    cache = Cache(tmp_path, frozenset({"kind", "unused"}))
    assert cache.never_renewed() == ["kind", "unused"]
    with pytest.raises(RuntimeError, match="power cut"):
        cache.folder("kind", KEY, fail)
    assert (stage / "result").read_text() == "old"
    assert (cache.folder("kind", KEY, make("new")) / "result").read_text() == "new"
    assert cache.folder("kind", KEY, fail) == stage, "once"
    assert (cache.folder("other", KEY, fail) / "result").read_text() == "old"
    assert cache.never_renewed() == ["unused"]


def test_two_processes_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [PROCESSES.Process(target=build_slowly, args=(tmp_path / "cache", log)) for _ in range(2)]
    assert run(*processes) == [0, 0]
    assert log.read_text() == "built\n"


def test_others_may_read_what_was_cached(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    assert Cache(tmp_path).folder("kind", KEY, lambda folder: None).stat().st_mode == plain.stat().st_mode


def test_a_tensors_digest_sees_names_shapes_types_values_and_what_stands_beside() -> None:
    plain = {"a": torch.arange(4.0), "b": torch.tensor(1.0)}
    variants = [
        plain,
        {"a": torch.arange(4.0), "c": torch.tensor(1.0)},
        {"a": torch.arange(4.0).reshape(2, 2), "b": torch.tensor(1.0)},
        {"a": torch.arange(4.0).bfloat16(), "b": torch.tensor(1.0)},
        {"a": torch.arange(4.0) + 1e-6, "b": torch.tensor(1.0)},
    ]
    digests = {tensors_digest(tensors) for tensors in variants} | {tensors_digest(plain, {"scale": 2})}
    assert len(digests) == 6
    assert tensors_digest(dict(reversed(plain.items()))) == tensors_digest(plain)
    assert tensors_digest({"a": torch.arange(8.0)[::2]}) == tensors_digest({"a": torch.tensor([0.0, 2, 4, 6])})


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("spoil", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", ["weights.safetensors", "metadata.json", "inner/table.csv", "checksums.json"])
def test_a_damaged_folder_is_told_and_made_again(tmp_path: Path, spoil: Callable[[Path], None], name: str) -> None:
    contents = {"weights.safetensors": b"0123456789", "metadata.json": b'{"a": 1}', "inner/table.csv": b"a,b\n1,2\n"}

    def make(folder: Path) -> None:
        (folder / "inner").mkdir()
        for file, content in contents.items():
            (folder / file).write_bytes(content)

    original = Cache(tmp_path / "made").folder("kind", KEY, make)
    copy = Cache(tmp_path / "copied").path("kind", KEY)
    shutil.copytree(original, copy)
    spoil(copy / name)
    if name == "checksums.json" and spoil is Path.unlink:  # as caches without checksums are
        assert Cache(tmp_path / "copied").folder("kind", KEY, lambda folder: None) == copy
        return
    pattern = r"\S+" if name == "checksums.json" else name  # an altered checksum makes its file look altered
    with pytest.warns(UserWarning, match=rf"{copy.name} is damaged: {pattern} .*; it is made again"):
        assert Cache(tmp_path / "copied").folder("kind", KEY, make) == copy
    assert {file: (copy / file).read_bytes() for file in contents} == contents
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Cache(tmp_path / "copied").folder("kind", KEY, lambda folder: None) == copy


def test_checkpoints_of_what_is_finished_do_not_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    stage = cache.folder("kind", KEY, lambda folder: (folder / "result").touch())
    (cache.scratch("kind", KEY) / "checkpoint").mkdir(parents=True)  # of a process killed just after it had finished
    assert cache.folder("kind", KEY, lambda folder: None) == stage
    assert not cache.scratch("kind", KEY).exists()
