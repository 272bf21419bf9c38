"""Blocks, order and titles of rows follow what every run says of its method, whatever it is called."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.conftest import composed
from tests.report.synthetic import add_run

from esmerge.core.errors import StoreError
from esmerge.core.methods import MergeInfo, MethodKind, MethodRecord
from esmerge.core.registry import Entry
from esmerge.experiment.config import choose_method, read_sweep
from esmerge.experiment.plan import RunSpec, plan_runs
from esmerge.merging.api import MERGES
from esmerge.merging.ops.settings import ConvexSettings
from esmerge.report.load import load_sweep
from esmerge.report.methods import BLOCKS, row_rank, row_title
from esmerge.report.tables import build_table

DEFAULT = [
    *("majority", "group_mean", "drug_only", "partner_only", "logistic_regression", "random_forest"),
    *("base", "expert:cell", "expert:molecule", "expert:protein", "finetuned"),
    *("average", "task_arithmetic", "ties", "es"),
]


def planned(*overrides: str) -> dict[str, RunSpec]:
    """``method`` of the results -> run of the sweep."""
    return {spec.label: spec for spec in plan_runs(read_sweep(composed(*overrides)))}


def in_order(records: dict[str, MethodRecord]) -> list[str]:
    methods = random.Random(0).sample(sorted(records), len(records))
    return sorted(methods, key=lambda method: row_rank(records[method], method))


def test_the_default_sweep_stands_in_its_order() -> None:
    assert in_order({label: spec.record for label, spec in planned().items()}) == DEFAULT


def test_every_merge_stands_in_its_block() -> None:
    records = {name: planned(f"method={name}", "granularity=joint")[name].record for name in MERGES.names()}
    methods = in_order(records)
    controls = ["es_magnitude", "es_noise", "es_permuted", "es_shuffled", "inverse_norm", "random"]
    assert methods[0] == "average" and methods[-9:] == ["es", *controls, "adamerging", "emr"]
    assert methods[1:-9] == sorted(methods[1:-9])


def test_a_method_that_is_a_reference_too_keeps_its_place() -> None:
    specs = planned("method=base")
    assert list(specs).count("base") == 1 and specs["base"].record.rank < specs["expert:cell"].record.rank


def test_runs_say_what_a_reader_calls_their_method() -> None:
    specs = planned()
    assert specs["expert:molecule"].title == "Molecule specialist"
    assert specs["es"].title == MERGES.get("es").info.title
    assert [label for label, spec in specs.items() if spec.record.finetuned] == ["finetuned"]


def test_a_row_is_called_by_its_title_and_what_tells_it_apart() -> None:
    assert row_title("Average", "", "delta", "scale=2.1") == "Average (delta, scale=2.1)"
    assert row_title("Base model", "", "") == "Base model"


def test_every_kind_has_a_block() -> None:
    assert set(BLOCKS) == set(MethodKind)


def test_a_control_of_another_package_is_a_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MERGES.names()
    info = MergeInfo("Weights of yesterday", "nowhere", MethodKind.CONTROL, ("factors",), ("joint",), convex=True)
    monkeypatch.setitem(MERGES._entries, "yesterday", Entry("yesterday", lambda *_: None, ConvexSettings, info))
    sweep = read_sweep(composed())
    spec = RunSpec(choose_method({"name": "yesterday"}), "factors", sweep, {})
    add_run(tmp_path, "yesterday", spec.label, 0.9, n=50, record=spec.record)
    for method, rate in {"es": 0.6, "es_shuffled": 0.5, "average": 0.6}.items():
        add_run(tmp_path, method, method, rate, n=50)
    lines = {line.title: line for line in build_table(load_sweep(tmp_path), []).lines}
    assert list(lines) == ["Average", "ES-Merging", "ES, coefficients shuffled", "Weights of yesterday"]
    assert lines["Weights of yesterday"].block == BLOCKS[MethodKind.CONTROL]
    best = {title for title, line in lines.items() if any(entry.best for entry in line.entries)}
    assert best == {"Average", "ES-Merging"}  # though the control has more


def test_a_run_that_does_not_say_what_it_is_is_refused_by_name(tmp_path: Path) -> None:
    run = add_run(tmp_path, "es-joint", "es", 0.6, n=20)
    record = run.path / "method.json"
    record.unlink()
    with pytest.raises(StoreError, match=r"es-joint does not say what its method is.*run the sweep again"):
        load_sweep(tmp_path)
    for text in ('{"kind": "sorcery", "title": "ES"}', '{"kind": "es", "name": "ES"}', "{}"):
        record.write_text(text)
        with pytest.raises(StoreError, match=r"es-joint.method.json says of its method what is not understood"):
            load_sweep(tmp_path)
