"""A finished run is made again where its table, probe or adapters hold something else under the same name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from tests.conftest import composed
from tests.front_door import run_sweep
from tests.specialists.tiny_language_model import write_tables
from tests.standalone.tiny import save_backbone, train_experts, write_probe

import esmerge.experiment.changes
from esmerge.core import compose
from esmerge.experiment.changes import CurrentData
from esmerge.experiment.config import read_sweep
from esmerge.experiment.input_files import specialist_files
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.tracking.results import run_folders
from esmerge.tracking.store import RunFolder

CONFIG = """defaults:
  - base@_here_: interactions
name: assay
title: Our assay
table: assay.csv
columns: {molecule: SMILES, protein: target_sequence, label: binds}
label_values: [inactive, active]
split: random
"""
FLOORS = ("references=[majority]", "method=drug_only", "benchmark=assay", "compute.resamples=20", "tracking=disabled")

pytestmark = pytest.mark.filterwarnings("ignore:benchmark 'assay' has few")


def write_table(folder: Path, flipped: bool = False, bad_rows: int = 1) -> None:
    labels = ["inactive", "active"][:: -1 if flipped else 1]
    rows = [f"{'C' * (1 + i % 60)}O,{'MKTAYIAKQR' * (1 + i // 60)},{labels[(i % 60) % 3 > 0]}" for i in range(240)]
    rows += [f"no molecule {i},MKT,active" for i in range(bad_rows)]
    (folder / "assay.csv").write_text("\n".join(["SMILES,target_sequence,binds", *rows, ""]), encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder with a config and a table of their own."""
    (tmp_path / "mine" / "benchmark").mkdir(parents=True)
    (tmp_path / "mine" / "benchmark" / "assay.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "tables").mkdir()
    write_table(tmp_path / "tables")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(monkeypatch: pytest.MonkeyPatch, place: Path, *words: str) -> None:
    places = ("benchmark.root=tables", f"cache={place}/cache", f"hydra.sweep.dir={place}/sweep")
    assert run_sweep(monkeypatch, "-m", "--config-dir", f"{place}/mine", *FLOORS, *places, *words) == 0


def stamps(place: Path) -> dict[str, int]:
    """Run -> when its answers were written."""
    return {run.name: (run.path / "metrics.csv").stat().st_mtime_ns for run in run_folders(place / "sweep")}


def right_answers(place: Path) -> pd.Series:
    (answers,) = {
        tuple(zip(run.read_predictions("assay")["id"], run.read_predictions("assay")["label"], strict=True))
        for run in run_folders(place / "sweep")
    }
    return pd.Series(dict(answers))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_other_labels_under_the_same_name_make_every_run_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    sweep(monkeypatch, place, f"split={split}")
    before, labels = stamps(place), right_answers(place)
    capsys.readouterr()
    write_table(place / "tables", flipped=True, bad_rows=2)
    sweep(monkeypatch, place, f"split={split}")
    told = [line for line in capsys.readouterr().err.splitlines() if "changed since; made again" in line]
    assert sorted(told) == sorted(f"{name}: the table of assay changed since; made again" for name in before)
    assert set(stamps(place)) == set(before) and all(stamps(place)[name] != before[name] for name in before)
    assert (right_answers(place) != labels.reindex(right_answers(place).index)).all()
    assert len(pd.read_csv(place / "sweep" / "rejects" / "assay.csv")) == 2
    sweep(monkeypatch, place, f"split={split}")
    assert "made again" not in capsys.readouterr().err


def test_a_table_that_holds_the_same_is_compared_once_and_nothing_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(monkeypatch, place)
    before = stamps(place)
    readings: list[object] = []
    real = esmerge.experiment.changes.load_suite

    def counted(job: Any) -> Any:
        readings.append(job)
        return real(job)

    monkeypatch.setattr(esmerge.experiment.changes, "load_suite", counted)
    sweep(monkeypatch, place)
    assert not readings, "where no file changed, no table is read"
    os.utime(place / "tables" / "assay.csv", ns=(1, 1))
    for _ in range(2):
        sweep(monkeypatch, place)
        assert len(readings) == 1, "one reading for all runs of the job, and its result is noted"
    for run in run_folders(place / "sweep"):
        (run.path / "inputs.json").write_text('{"files": {"a": 1}, "folders": 2}')
    sweep(monkeypatch, place)
    assert len(readings) == 2, "a damaged note says nothing, so that the table is compared"
    assert stamps(place) == before and "made again" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("label_values: [inactive, active]", "label_values: [active, inactive]", "the right answers"),
        ("split: random", "split: cold_drug", "the questions"),
        ("split: random", "split: random\nlimit: 24", "the questions"),
    ],
)
def test_another_config_of_a_benchmark_in_a_suite_makes_every_run_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: str, after: str, what: str
) -> None:
    (place / "mine" / "suite").mkdir()
    (place / "mine" / "suite" / "own.yaml").write_text("name: own\nbenchmarks: [assay]\n", encoding="utf-8")
    words = (*[word for word in FLOORS if word != "benchmark=assay"], "suite=own", "benchmark.root=tables")
    places = (f"cache={place}/cache", f"hydra.sweep.dir={place}/sweep")

    def told() -> list[str]:
        assert run_sweep(monkeypatch, "-m", "--config-dir", f"{place}/mine", *words, *places) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "changed since; made again" in line]

    assert told() == [] and told() == []
    (place / "mine" / "benchmark" / "assay.yaml").write_text(CONFIG.replace(before, after), encoding="utf-8")
    monkeypatch.setattr(compose, "_COMPOSED", {})  # as in another process
    lines = told()
    assert len(lines) == 2 and all(f"{what} of assay" in line for line in lines) and told() == []


@pytest.mark.parametrize("way", ["link", "path", "parent"])
def test_a_table_is_watched_wherever_it_lies(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    disk = place / "disk"
    disk.mkdir()
    write_table(disk)
    (place / "tables" / "set").symlink_to(disk)
    (disk / "round").symlink_to(place / "tables")
    table = {"link": "set/assay.csv", "path": str(disk / "assay.csv"), "parent": "../disk/assay.csv"}[way]
    (place / "mine" / "benchmark" / "assay.yaml").write_text(CONFIG.replace("assay.csv", table), encoding="utf-8")
    sweep(monkeypatch, place)
    capsys.readouterr()
    write_table(disk, flipped=True)
    sweep(monkeypatch, place)
    assert capsys.readouterr().err.count("the table of assay changed since; made again") == 2


def test_a_table_that_is_gone_leaves_what_is_done(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(monkeypatch, place)
    before = stamps(place)
    (place / "tables" / "assay.csv").unlink()
    sweep(monkeypatch, place)
    assert stamps(place) == before
    assert "its benchmarks cannot be compared (benchmark 'assay': no file" in capsys.readouterr().err


def test_another_probe_or_adapter_makes_those_runs_again_that_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = save_backbone(tmp_path / "backbone")
    experts, probe = train_experts(backbone, tmp_path), write_probe(tmp_path / "probe.jsonl")
    write_tables(tmp_path / "data")
    words = [
        *("-m", "specialists=custom", f"specialists.backbone={backbone}", "granularity=layer", "method=es"),
        f"specialists.experts.mol={{path: {experts['mol']}, modality: molecule}}",
        f"specialists.experts.prot={experts['prot']}",
        *("probe=text", f"probe.file={probe}", "granularity.projections=8", "benchmark=human", "benchmark.limit=8"),
        *(f"benchmark.root={tmp_path / 'data'}", "references=[majority,average]", "tracking=disabled"),
        *("compute.threads=1", "compute.resamples=10", f"cache={tmp_path / 'c'}", f"hydra.sweep.dir={tmp_path / 's'}"),
    ]

    def told() -> set[str]:
        assert run_sweep(monkeypatch, *words) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if line.endswith("changed since; made again")]
        return {
            line.split("-")[0] + line.partition(":")[2].removesuffix(" changed since; made again") for line in lines
        }

    def coefficients() -> bytes:
        (file,) = (tmp_path / "s").glob("es-*/coefficients.safetensors")
        return file.read_bytes()

    assert told() == set()
    first = coefficients()
    probe.write_text("\n".join(probe.read_text().splitlines()[1:]), encoding="utf-8")
    assert told() == {"es the probe file"} and coefficients() != first
    assert told() == set()
    second, weights = coefficients(), experts["mol"] / "adapter_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    assert told() == {"es the adapter of mol", "average the adapter of mol"} and coefficients() != second
    assert told() == set()


def spec(*words: str) -> RunSpec:
    return plan_runs(read_sweep(composed("references=[]", *words)))[-1]


def test_tables_that_specialists_are_taught_are_noted_and_another_one_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    tables = [f"cyp/cyp{enzyme}_inhibitor.csv" for enzyme in ("1a2", "2c9", "2c19", "2d6", "3a4")]
    tables += ["gdsc/gdsc2_pairs.csv", "dti_human/human_random.csv"]
    for name in [*tables, "of_no_lesson.csv"]:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("a,b\n", encoding="utf-8")
    words = ("specialists=smollm2", f"specialists.root={data}", "specialists.checkpoint=org/model")
    assert specialist_files(spec(*words, "method=drug_only")) == {}  # asks no specialist
    merge, run = spec(*words, "method=average"), RunFolder(tmp_path / "run")
    assert {str(path.relative_to(data)) for path in specialist_files(merge)} == set(tables)
    CurrentData().note(merge, run)
    (data / "of_no_lesson.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (data / tables[1]).touch()
    assert CurrentData().changes(merge, run) == []
    (data / tables[0]).write_text("a,b\n1,2\n", encoding="utf-8")
    assert CurrentData().changes(merge, run) == [f"{tables[0]}, which specialists are taught,"]


def test_a_table_that_a_lesson_itself_names_is_noted(tmp_path: Path) -> None:
    table = tmp_path / "molecule" / "drugbank_approved_properties.csv"
    table.parent.mkdir()
    table.write_text("SMILES,logP\n", encoding="utf-8")
    assert list(specialist_files(spec("specialists=smollm2_aligned", f"specialists.root={tmp_path}"))) == [table]
