from __future__ import annotations

import pytest
from tests.conftest import composed

from esmerge.core.errors import ConfigError
from esmerge.experiment.config import read_sweep
from esmerge.experiment.plan import plan_runs


def names(*overrides: str) -> list[str]:
    return [spec.name for spec in plan_runs(read_sweep(composed(*overrides)))]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["benchmark.shots=3"], "3shots"),
        (["benchmark.shots=3", "benchmark.shot_choice=auto"], "3shots"),
        (["benchmark.shots=5", "benchmark.shot_choice=random"], "5shots-random"),
        (["benchmark=human", "benchmark.root=x", "benchmark.shots=2"], "2shots"),
    ],
)
def test_shots_are_part_of_every_runs_name(overrides: list[str], part: str) -> None:
    run_names = names(*overrides)
    assert all(f"-{part}-s0-" in name for name in run_names) and len(set(run_names)) == len(run_names)


@pytest.mark.parametrize("overrides", [[], ["benchmark.shots=0"], ["benchmark.shot_choice=random"]])
def test_without_shots_a_name_says_nothing_of_them(overrides: list[str]) -> None:
    assert not any("shot" in name for name in names(*overrides))


def test_a_whole_number_and_the_same_float_are_one_setting() -> None:
    runs = [names("method=task_arithmetic", f"method.scale={value}")[-1] for value in ("1", "1.0", "0.5")]
    assert runs[0] == runs[1] != runs[2]
    assert names("method=ties", "method.scale=1") == names("method=ties", "method.scale=1.0")


def test_a_run_is_another_one_where_a_suite_says_what_its_panels_perceive() -> None:
    runs = [
        set(names("suite=panels", *overrides))
        for overrides in ([], ["benchmark.perceive=none"], ["benchmark.training=every"])
    ]
    assert not runs[0] & runs[1] and not runs[0] & runs[2] and not runs[1] & runs[2]
    (spec, *_) = plan_runs(read_sweep(composed("suite=panels")))
    assert not {"perceive", "training"} & set(spec.config["benchmark"])  # so that older runs keep their names


def test_only_a_specialist_asked_alone_has_a_name_in_its_label() -> None:
    specs = plan_runs(read_sweep(composed("references=[expert,base]", "method=expert", "method.expert=cell")))
    labels = [spec.label for spec in specs]
    assert labels == ["expert:molecule", "expert:protein", "base", "expert:cell"]
    assert [spec.expert for spec in specs] == ["molecule", "protein", None, "cell"]


@pytest.mark.parametrize("reference", [name for name in composed().references if name != "expert"])
def test_a_jobs_own_run_stands_last_where_it_is_a_reference_too(reference: str) -> None:
    method, _, space = reference.partition("@")
    specs = plan_runs(read_sweep(composed("split=validation", f"method={method}", f"merge_space={space or 'null'}")))
    assert specs[-1].label == method and (not space or specs[-1].space == space)
    assert sorted(spec.name for spec in specs) == sorted(names("split=validation")[:-1])  # without method=es


def test_each_specialist_stands_last_where_it_is_asked_alone() -> None:
    for expert in ("molecule", "protein", "cell"):
        specs = plan_runs(read_sweep(composed("split=validation", "method=expert", f"method.expert={expert}")))
        assert specs[-1].expert == expert and len(specs) == len(set(names("split=validation"))) - 1


def test_a_specialist_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="method.expert='liver': expected one of molecule, protein, cell"):
        plan_runs(read_sweep(composed("method=expert", "method.expert=liver")))
