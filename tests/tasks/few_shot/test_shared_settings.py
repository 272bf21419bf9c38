"""The shared settings from the command line to the prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import composed

from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.experiment.config import read_sweep
from esmerge.tasks.few_shot.few_shot import FewShot
from esmerge.tasks.load import PANELS, SHARED, check_benchmarks, load_benchmark

EMBEDDED = ("specialists=textbook_tiny", "benchmark.limit=6")


def load(name: str, *overrides: str) -> Benchmark:
    sweep = read_sweep(composed(*EMBEDDED, *overrides))
    check_benchmarks(sweep.suite_request())
    return load_benchmark(sweep.suite_request(), name)


def test_the_default_is_no_shots_and_whole_proteins() -> None:
    bare = load("drug_protein")
    assert type(bare) is Benchmark and not any(isinstance(question, FewShot) for question in bare.test)


@pytest.mark.parametrize(
    ("name", "entities"), [("drug_protein", 2), ("drug_drug_cell", 3), ("drug_drug", 2), ("cell_lineage", 1)]
)
def test_every_embedded_benchmark_can_have_shots(name: str, entities: int) -> None:
    bare, few_shot = load(name), load(name, "benchmark.shots=2")
    assert few_shot.train == bare.train and few_shot.checksum == bare.checksum
    for before, after in zip((*bare.test, *bare.validation), (*few_shot.test, *few_shot.validation), strict=True):
        assert len(after.shots) == 2 and after.prompt[-len(before.prompt) :] == before.prompt
        assert sum(not isinstance(segment, str) for segment in after.prompt) == 3 * entities


def test_rule_and_separator_are_the_suites() -> None:
    benchmark = load(
        "drug_cell", "benchmark.shots=1", "benchmark.shot_choice=random", "benchmark.shot_separator=' ## '"
    )
    assert all(" ## " in question.prompt for question in benchmark.test)
    assert [question.shots for question in benchmark.test] != [
        question.shots for question in load("drug_cell", "benchmark.shots=1").test
    ]


def test_a_window_comes_before_the_shots() -> None:
    benchmark = load("drug_protein", "benchmark.protein_window=20", "benchmark.shots=1")
    assert benchmark.shortened
    segments = [
        segment
        for question in (*benchmark.test, *benchmark.validation, *benchmark.train)
        for segment in question.prompt
    ]
    assert max(len(segment.value) for segment in segments if getattr(segment, "modality", "") == "protein") == 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("benchmark.shots=-1", r"benchmark\.shots=-1: expected a whole number from 0"),
        ("benchmark.shots=true", r"benchmark\.shots=True: expected a whole number from 0"),
        ("benchmark.shots=some", r"benchmark\.shots='some': expected a whole number from 0, or null for none"),
        ("benchmark.shot_choice=far", r"benchmark\.shot_choice='far': expected one of auto, nearest_entity, .*random"),
        ("benchmark.shot_separator=3", r"benchmark\.shot_separator=3: expected text, or null"),
        ("benchmark.shot_separator=''", r"benchmark\.shot_separator='': expected text"),
        ("benchmark.seen=[a]", r"benchmark\.seen=\['a'\]: expected a folder, or null"),
        ("benchmark.root=5", r"benchmark\.root=5: expected a folder, or null"),
        ("benchmark.protein_window=0", r"benchmark\.protein_window=0: expected a whole number from 1, or null for all"),
        (
            "+benchmark.shot=3",
            r"benchmark\.shot is not a setting that all benchmarks share: those are root, limit, shots",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_benchmarks(read_sweep(composed(*EMBEDDED, override)).suite_request())


def test_a_suite_of_panels_sets_what_is_perceived() -> None:
    request = read_sweep(composed("suite=panels", "benchmark.perceive=partner", "benchmark.training=every"))
    check_benchmarks(request.suite_request())
    with pytest.raises(ConfigError, match=r"benchmark\.perceive='nobody' must be one of both, molecule, partner, none"):
        check_benchmarks(read_sweep(composed("suite=panels", "benchmark.perceive=nobody")).suite_request())


@pytest.mark.parametrize("suite", ["textbook", "molecule_protein"])
def test_a_benchmark_of_a_suite_that_is_no_panel_is_named(suite: str) -> None:
    first = compose_choice("suite", suite)["benchmarks"][0]
    request = read_sweep(composed(f"suite={suite}", "benchmark.perceive=partner")).suite_request()
    with pytest.raises(ConfigError, match=rf"benchmark\.perceive=partner: the benchmark {first} has no such setting"):
        check_benchmarks(request)


def test_a_rule_that_a_benchmark_cannot_use_names_it() -> None:
    with pytest.raises(ConfigError, match="benchmark 'drug_cell': benchmark.shot_choice=same_protein needs 1 protein"):
        load("drug_cell", "benchmark.shots=1", "benchmark.shot_choice=same_protein")


def test_the_suites_config_shows_every_shared_setting() -> None:
    assert set(composed().benchmark) == {"name", *SHARED, *PANELS}


def test_jobs_of_one_process_share_their_benchmarks_until_a_setting_changes() -> None:
    first = load("drug_protein")
    assert load("drug_protein", "granularity=layer") is first
    changed = load("drug_protein", "benchmark.limit=5")
    assert changed is not first and len(changed.test) == 5
    assert load("drug_protein", "seed=1").test != load("drug_protein").test
    assert load("drug_protein") == first


def test_a_changed_table_is_read_again(tmp_path: Path) -> None:
    table = tmp_path / compose_choice("benchmark", "cyp3a4_inhibition")["table"]
    table.parent.mkdir(parents=True)
    overrides = ("benchmark=cyp3a4_inhibition", f"benchmark.root={tmp_path}", "benchmark.limit=null")

    def questions(longest: int) -> int:
        table.write_text("SMILES,label\n" + "".join(f"{'C' * n}O,{n % 2}\n" for n in range(1, longest + 1)))
        benchmark = load("cyp3a4_inhibition", *overrides)
        assert load("cyp3a4_inhibition", *overrides) is benchmark
        return len(benchmark.train) + len(benchmark.validation) + len(benchmark.test)

    assert questions(30) == 30 and questions(40) == 40
