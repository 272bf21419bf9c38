from __future__ import annotations

import threading
import time
from pathlib import Path

from esmerge.experiment.one_gpu import claimed_gpu, one_gpu

GPUS = {0: "GPU-a", 1: "GPU-b"}


def test_jobs_beside_one_another_have_different_gpus(tmp_path: Path) -> None:
    with claimed_gpu(GPUS, tmp_path) as first, claimed_gpu(GPUS, tmp_path) as second:
        assert {first, second} == {0, 1}
    with claimed_gpu(GPUS, tmp_path) as index:
        assert index == second  # where this process's models lie
    with claimed_gpu({0: "GPU-b", 1: "GPU-a"}, tmp_path) as renamed, claimed_gpu(GPUS, tmp_path) as other:
        assert {0: "GPU-b", 1: "GPU-a"}[renamed] != GPUS[other]  # named by what they are, not by their index


def test_a_job_waits_for_a_gpu(tmp_path: Path) -> None:
    claims: list[int] = []

    def job() -> None:
        with claimed_gpu({0: "GPU-a"}, tmp_path, poll=0.01) as index:
            claims.append(index)

    with claimed_gpu({0: "GPU-a"}, tmp_path):
        thread = threading.Thread(target=job)
        thread.start()
        time.sleep(0.1)
        assert not claims
    thread.join()
    assert claims == [0]


def test_a_device_that_was_named_and_a_job_alone_are_left_as_they_are(tmp_path: Path) -> None:
    for device in ("cpu", "cuda:1", "cuda"):  # no job of Hydra's runs here
        with one_gpu(device, tmp_path) as chosen_device:
            assert chosen_device == device
    assert not list(tmp_path.iterdir())
