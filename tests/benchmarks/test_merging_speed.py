"""The speed benchmark on tiny shapes: that everything is measured, not how quick it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from benchmarks.speed.cases import Case, cases
from benchmarks.speed.contenders import Job, attached, prepare
from benchmarks.speed.flops import counted, per_second
from benchmarks.speed.inputs import SHAPES, Adapters
from benchmarks.speed.measure import Measurement, Meter
from benchmarks.speed.merging import row
from benchmarks.speed.table import report

from esmerge.merging.api import MERGES

ROOT = Path(__file__).parents[2]
LOW, DENSE = (Adapters("tiny", layers, 3, 2, "bfloat16") for layers in (2, 1))


@pytest.fixture(scope="module")
def every() -> list[Case]:
    return cases(LOW, DENSE, set(), alone=False)


def test_every_registered_merge_has_a_row_in_each_of_its_spaces(every: list[Case]) -> None:
    pairs = {(case.ours.method, case.ours.space) for case in every if case.ours}
    assert pairs == {(name, space) for name in MERGES.names() for space in MERGES.get(name).info.spaces}


def test_everything_that_is_to_be_measured_runs(every: list[Case]) -> None:
    with torch.no_grad():
        for job in dict.fromkeys(job for case in every for job in case.jobs()):
            work = prepare(job)
            work()
            work()  # as often as one likes


def test_counterparts_are_found_where_they_exist(every: list[Case]) -> None:
    pytest.importorskip("mergekit")
    counterparts = {
        (case.ours.method, case.ours.space, *(value for _, value in case.ours.options)): [
            other and other.method for other in (case.mergekit, case.peft)
        ]
        for case in every
        if case.ours
    }
    assert counterparts["average", "factors"] == [None, "linear"]
    assert counterparts["average", "delta"] == ["linear", "cat"]
    assert counterparts["average", "delta", 2] == [None, "svd"]
    assert counterparts["dare_ties", "delta"] == ["dare_ties", None]
    assert counterparts["dare_ties", "delta", 2] == [None, "dare_ties_svd"]
    assert counterparts["slerp", "delta"] == ["karcher", None]
    assert counterparts["es", "factors"] == [None, None]


def test_dense_merges_get_fewer_layers(every: list[Case]) -> None:
    layers = {(case.ours.method, case.ours.space): case.ours.adapters.layers for case in every if case.ours}
    assert layers["average", "delta"] == layers["average", "factors"] == 2
    assert layers["ties", "delta"] == layers["regmean", "delta"] == 1


def test_peft_holds_the_same_adapters() -> None:
    model, experts = attached(LOW), LOW.make()
    for name, state in experts.items():
        for module, factors in state.modules.items():
            layer = model.model.get_submodule(module.removeprefix("base_model.model."))
            assert torch.equal(layer.lora_A[name].weight, factors.a)
            assert torch.equal(layer.lora_B[name].weight, factors.b)
            assert layer.scaling[name] == factors.scale


def test_adapters_are_as_large_as_they_say() -> None:
    tensors = [tensor for state in LOW.make().values() for tensor in state.tensors().values()]
    assert LOW.size() == sum(tensor.nbytes for tensor in tensors)
    # rank 8 on Llama-3.1-8B: 20.97 million entries per adapter, 2 bytes each, as PEFT counts them
    assert Adapters("llama-3.1-8b", SHAPES["llama-3.1-8b"].layers, 1, 8, "bfloat16").size() == 2 * 20_971_520


def test_seconds_are_scaled_to_the_full_depth_and_ratios_are_per_layer() -> None:
    ours, theirs = Job("ours", "ties", DENSE, (), "delta"), Job("mergekit", "ties", LOW)
    measurements = {ours: Measurement(1.5, 4_000_000), theirs: Measurement(6.0, 9_000_000)}
    text = report([Case(ours, theirs)], measurements, LOW, threads=1)
    assert "| ties | delta | ~3 | 4 | `ties` | 6 | 9 | 0.5 |" in text
    assert "Slower than a counterpart, of 1: none." in text


def test_what_fails_or_takes_too_long_is_said() -> None:
    meter = Meter(repeats=1, limit=60, threads=1)
    broken = Job("ours", "no_such_merge", DENSE, (), "delta")
    with pytest.raises(Exception, match="no_such_merge"):
        meter.measure(broken)
    wrong = Job("mergekit", "no_such_method", DENSE)
    measurements = {wrong: meter.measure(wrong)}
    assert measurements[wrong].seconds is None and "no_such_method" in measurements[wrong].fault
    slow = Job("peft", "cat", LOW)
    measurements[slow] = Meter(repeats=1, limit=0, threads=1).measure(slow)
    assert measurements[slow].fault == "> 0 s"


def test_the_command_measures_in_processes_of_their_own_and_writes_a_table(tmp_path: Path) -> None:
    out, table = tmp_path / "tables" / "speed.md", tmp_path / "tables" / "speed.csv"
    command = [sys.executable, "-m", "benchmarks.speed.merging", "--shapes", "tiny", "--only", "average"]
    command += ["--repeats", "1", "--threads", "1", "--out", str(out), "--csv", str(table)]
    process = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    text = out.read_text()
    assert process.stdout.strip() == text.strip()
    rows = [line for line in text.splitlines() if line.startswith("| average")]
    assert len(rows) == 3 and "Not measured" not in text and "the adapters' size" in text
    measurements = pd.read_csv(table)
    assert {"ours", "peft"} <= set(measurements["side"]) and (measurements["seconds"] > 0).all()
    assert measurements["threads"].tolist() == [1] * len(measurements)


def test_a_row_has_the_floor_of_what_multiplies_matrices() -> None:
    job = Job("ours", "average", DENSE, (("rank", 2),), "delta")
    cells = row(job, Measurement(3.0, 100, flop=4e9), speed=2e9, threads=1)
    assert (cells["options"], cells["floor_seconds"], cells["times_floor"]) == ("rank=2", 2.0, 1.5)
    bare = row(job, Measurement(3.0, 100, flop=0.0), speed=2e9, threads=1)
    assert bare["floor_seconds"] == 0 and bare["times_floor"] is None
    failure = row(job, Measurement(fault="> 9 s"), speed=2e9, threads=1)
    assert failure["seconds"] is None and failure["floor_seconds"] is None and failure["fault"] == "> 9 s"


def test_operations_are_counted_as_products_say() -> None:
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    assert counted(lambda: left @ right) == 2 * 3 * 5 * 7
    assert per_second() > 1e6
