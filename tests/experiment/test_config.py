"""Every config composes and fits its schema; what does not is refused with a message that says what is allowed.

Files are found in the conf tree: a new one is covered by being there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from tests.conftest import composed

from esmerge.baselines.api import FLOORS, REFERENCES
from esmerge.coefficients.estimation import GRANULARITIES
from esmerge.core.errors import ConfigError
from esmerge.core.paths import CONF
from esmerge.core.schema import choose, plain, typed
from esmerge.experiment.config import read_sweep
from esmerge.experiment.plan import plan_runs
from esmerge.merging.api import MERGES
from esmerge.probe.api import PROBES
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.families.custom.settings import open_experts_node
from esmerge.tasks.load import check_benchmarks

open_experts_node()  # as the front doors do, for conf/merge.yaml
FRONT_DOORS = sorted(path.stem for path in CONF.glob("*.yaml"))
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
PARTS = ("encoder", "release")  # groups that other configs or doors compose, not the sweep
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in PARTS]
PATHS = ("backbone", "experts.molecule", "experts.protein", "experts.cell", "pool")
LLAMA = tuple(f"specialists.{key}=folder" for key in PATHS)
NEEDED = {  # what a choice cannot do without
    ("probe", "text"): ("probe.file=probe.jsonl",),
    ("method", "es_magnitude"): ("granularity=element",),
    ("specialists", "custom"): (
        *("specialists.backbone=backbone", "specialists.experts.one=one", "specialists.experts.two=two"),
        *("probe=text", "probe.file=probe.jsonl"),
    ),
    ("specialists", "llama31_8b"): LLAMA,
    **{
        choice: LLAMA
        for choice in CHOICES
        if choice[0] == "experiment" and choice[1].startswith(("paper_", "ablation_"))
    },
}


def check(config: DictConfig) -> list[str]:
    """What the front door checks before any work; the names of the runs."""
    sweep = read_sweep(config)
    check_benchmarks(sweep.suite_request())
    return [spec.name for spec in plan_runs(sweep)]


def group_of_sweep(group: str) -> bool:
    return any(group in entry for entry in OmegaConf.load(CONF / "sweep.yaml").defaults if not isinstance(entry, str))


@pytest.mark.parametrize("name", FRONT_DOORS)
def test_every_front_door_composes(name: str) -> None:
    config = composed(config=name)
    assert len(config) > 0 and "hydra" not in config


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=["/".join(choice) for choice in CHOICES])
def test_every_choice_composes_and_passes_the_check(group: str, name: str) -> None:
    assert group_of_sweep(group), f"conf/{group} is no group of conf/sweep.yaml"
    runs = check(composed(f"{group}={name}", *NEEDED.get((group, name), ())))
    assert len(runs) > 1 and len(set(runs)) == len(runs)


@pytest.mark.parametrize("path", sorted(CONF.glob("experiment/*.yaml")), ids=lambda path: path.stem)
def test_what_an_experiment_says_wins_over_the_defaults(path: Path) -> None:
    expected = {key: value for key, value in plain(OmegaConf.load(path)).items() if key not in ("defaults", "hydra")}
    config = plain(composed(f"experiment={path.stem}"))
    for key, value in expected.items():
        setting = config[key]
        assert setting == value or (isinstance(value, dict) and value.items() <= setting.items()), key


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_config_opens_with_what_it_is_and_how_to_run_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]]
    assert len(head) >= 2 and "python -m src." in "\n".join(head[1:])


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_names_in_files_are_those_of_the_files(path: Path) -> None:
    node = OmegaConf.load(path)
    if "name" in node and path.stem != "suite":
        assert node.name == path.stem


def test_every_registered_entry_has_a_config() -> None:
    for registry, group in ((MERGES, "method"), (FLOORS, "method"), (REFERENCES, "method"), (PROBES, "probe")):
        assert set(registry.names()) <= {name for folder, name in CHOICES if folder == group}
    assert {name for group, name in CHOICES if group == "granularity"} == set(GRANULARITIES)
    kinds = {OmegaConf.load(CONF / "specialists" / f"{n}.yaml").get("kind") for g, n in CHOICES if g == "specialists"}
    assert set(SPECIALISTS.names()) <= kinds | {name for group, name in CHOICES if group == "specialists"}


def test_the_default_sweep_holds_the_references_and_one_merge() -> None:
    specs = plan_runs(read_sweep(composed("specialists=textbook_tiny", "specialists.experts=[cell,protein]")))
    labels = [spec.label for spec in specs]
    assert labels[-1] == "es" and labels.count("es") == 1
    assert [label for label in labels if label.startswith("expert:")] == ["expert:cell", "expert:protein"]
    assert {(spec.label, spec.space) for spec in specs} >= {
        ("average", "factors"),
        ("average", "delta"),
        ("base", None),
    }


def test_a_reference_that_is_asked_for_again_runs_once() -> None:
    specs = plan_runs(read_sweep(composed("references=[base,expert]", "method=base")))
    assert [spec.label for spec in specs].count("base") == 1
    experts = plan_runs(read_sweep(composed("references=[expert]", "method=expert", "method.expert=cell")))
    assert sorted(spec.label for spec in experts) == ["expert:cell", "expert:molecule", "expert:protein"]


def test_a_run_is_named_by_what_decides_its_results_alone() -> None:
    def names(*overrides: str) -> list[str]:
        return check(composed("references=[base,average]", *overrides))

    plain_, cheaper = names(), names("compute.batch_size=2", "tracking=disabled", "cache=elsewhere")
    assert plain_ == cheaper
    finer = names("granularity=element", "probe.samples=7")
    assert finer[:2] == plain_[:2] and finer[2] != plain_[2], "references do not depend on granularity and probe"
    assert not set(plain_) & set(names("seed=1")) and not set(plain_) & set(names("benchmark.limit=9"))


MESSAGES = {
    # unknown choices of groups: Hydra's own words
    "granularity=module": r"Could not find 'granularity/module'(.|\n)*element(.|\n)*joint(.|\n)*layer",
    "method=magic": r"Could not find 'method/magic'(.|\n)*average(.|\n)*es",
    "probe=loud": r"Could not find 'probe/loud'(.|\n)*mixed",
    "specialists=nobody": r"Could not find 'specialists/nobody'(.|\n)*textbook",
    "benchmark=nothing": r"Could not find 'benchmark/nothing'(.|\n)*drug_protein",
    "suite=none": r"Could not find 'suite/none'(.|\n)*textbook",
    "tracking=paper": r"Could not find 'tracking/paper'(.|\n)*offline",
    # unknown keys
    "granularity.T=1": r"Could not override 'granularity\.T'",
    "+granularity.T=1": r"granularity\.T is not a setting: expected one of name, temperature, tau",
    "+method.lambda=1": r"method\.lambda is not a setting: expected one of scale, rank, fold_scales",
    "+probe.size=1": r"probe\.size is not a setting: expected one of samples, batch_size",
    "+specialists.lora.dropout=0.1": r"specialists\.lora\.dropout is not a setting: expected one of rank, alpha, steps",
    "+specialists.dropout=0.1": r"specialists\.dropout is not a setting: expected one of experts, language",
    "+tracking.token=1": r"tracking\.token is not a setting: expected one of mode, project",
    "+compute.cores=1": r"compute\.cores is not a setting: expected one of device, threads, batch_size",
    "+suite.extra=1": r"suite\.extra is not a setting: expected one of name, benchmarks",
    "+benchmark.table=x.csv": r"benchmark\.table is not a setting.*root.*limit",
    "+colour=red": r"colour: not a setting of a sweep, expected one of specialists, probe",
    "~granularity": r"granularity must be given",
    "~probe.name": r"probe has no name: expected one of authors, mixed, shuffled, single, text",
    # wrong types
    "granularity.temperature=warm": r"granularity\.temperature.*'warm'.*[Ff]loat",
    "granularity.projections=many": r"granularity\.projections.*'many'.*[Ii]nteger",
    "probe.samples=1.5": r"probe\.samples.*1\.5.*[Ii]nteger",
    "probe.samples=null": r"probe\.samples",
    "method.fold_scales=7up": r"method\.fold_scales.*'7up'.*bool",
    "specialists.experts=cell": r"specialists\.experts.*(list|cell)",
    "specialists.lora=3": r"^specialists: .*int.*LoraSettings",
    "compute.threads=all": r"compute\.threads.*'all'.*[Ii]nteger",
    "references=base": r"references='base': expected a list of names",
    "suite.benchmarks=drug_cell": r"suite\.benchmarks",
    "seed=one": r"seed='one': expected a whole number from 0",
    "seed=-1": r"seed=-1: expected a whole number from 0",
    "seed=true": r"seed=True: expected a whole number from 0",
    "cache=null": r"cache=None: expected a folder",
    # out of range
    "granularity.temperature=0": r"granularity\.temperature=0\.0 must be greater than 0",
    "granularity.tau=-1": r"granularity\.tau=-1\.0 must be greater than 0",
    "granularity.projections=0": r"granularity\.projections=0 must be greater than 0",
    "granularity.name=module": r"granularity.*'module': expected one of layer, element, joint",
    "granularity.score=cubed": r"granularity\.score='cubed': expected one of absolute, squared",
    "probe.samples=0": r"probe\.samples=0: expected a number from 1",
    "probe.batch_size=0": r"probe\.batch_size=0: expected a number from 1",
    "method.scale=0": r"method\.scale=0\.0 must be greater than 0",
    "method.rank=some": r"method\.rank='some' must be 'exact' or a positive whole number",
    "compute.batch_size=0": r"compute\.batch_size=0: expected a number from 1",
    "compute.resamples=0": r"compute\.resamples=0: expected a number from 1",
    "compute.device=abacus": r"compute\.device='abacus'.*cpu, cuda",
    "compute.device=cuda:99": r"compute\.device=cuda:99",
    "tracking.mode=loud": r"tracking\.mode='loud' must be one of disabled, offline, online",
    "benchmark.limit=0": r"benchmark\.limit=0: expected a whole number from 1, or null",
    "benchmark.limit=few": r"benchmark\.limit='few': expected a whole number from 1",
    "suite.benchmarks=[]": r"suite\.benchmarks=\[\]: expected one or more",
    "suite.benchmarks=[drug_cell,drug_cell]": r"each once",
    "suite.benchmarks=[drug_cell,drug_moon]": r"unknown benchmark 'drug_moon': expected one of .*drug_cell",
    # names inside
    "probe.name=loud": r"unknown probe 'loud': expected one of authors, mixed, shuffled, single, text",
    "specialists.kind=nobody": r"unknown specialist set 'nobody': expected one of .*textbook",
    "method.name=magic": r"unknown method 'magic': expected one of .*average, .*base, .*es",
    "merge_space=middle": r"merge_space='middle': expected one of factors, delta, or null",
    "references=[base,magic]": r"references names the method 'magic': expected one of .*average, .*base",
    "references=[ties@factors]": r"method=ties has no merge_space=factors: it has delta",
    "references=[base@delta]": r"references names 'base@delta': base does not merge",
}
COMBINED = {
    ("method=ties", "merge_space=factors"): r"method=ties has no merge_space=factors: it has delta",
    ("method=es", "merge_space=factors", "method.rank=2"): r"method\.rank=2 truncates.*merge_space=delta",
    ("method=es_noise", "granularity=element"): r"method=es_noise has no granularity=element: it has layer, joint",
    (
        "method=es_magnitude",
        "granularity=layer",
    ): r"method=es_magnitude has no granularity=layer: it has element, joint",
    ("method=expert", "method.expert=nobody"): r"method\.expert='nobody': expected one of molecule, protein, cell",
    ("benchmark=drug_cell", "benchmark.topic=frighten"): r"topic='frighten' cannot be asked.*kill",
    ("benchmark=drug_cell", "benchmark.source=magic"): r"unknown benchmark source 'magic': expected one of .*textbook",
    (
        "benchmark=drug_cell",
        "+benchmark.colour=red",
    ): r"benchmark drug_cell\.colour is not a setting: expected one of topic",
    ("benchmark=drug_cell", "benchmark.title=null"): r"benchmark drug_cell has no title",
}
CASES = [((override,), message) for override, message in MESSAGES.items()] + list(COMBINED.items())


@pytest.mark.parametrize(
    ("overrides", "message"), CASES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_what_does_not_fit_is_refused_with_what_is_allowed(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises((ConfigError, HydraException), match=message) as refusal:
        check(composed(*overrides))
    assert isinstance(refusal.value, HydraException) or "\n" not in str(refusal.value)


def test_an_empty_group_is_refused_by_name() -> None:
    config = composed()
    config.method = None
    with pytest.raises(ConfigError, match="method must be given"):
        read_sweep(config)


def test_every_front_door_has_a_module_of_its_name() -> None:
    assert set(FRONT_DOORS) <= {path.stem for path in (CONF.parent / "src").iterdir()}


@dataclass(frozen=True)
class Lesson:
    steps: int
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Course:
    lessons: dict[str, Lesson]
    rate: float = 1.0


def test_dictionaries_of_settings_are_typed_entry_by_entry() -> None:
    node = {"lessons": {"first": {"steps": 2, "weights": {"a": 1}}, "second": {"steps": 3}}, "rate": 2}
    expected = Course({"first": Lesson(2, {"a": 1.0}), "second": Lesson(3)}, 2.0)
    assert typed(Course, node, "course") == expected
    for lessons, message in (
        ({"first": {"step": 2}}, r"course\.lessons\.first\.step is not a setting: expected one of steps, weights"),
        ({"first": {"steps": "many"}}, r"course\.lessons\.first\.steps.*'many'"),
        ({"first": {}}, r"course\.lessons\.first\.steps must be given"),
        ({"first": 3}, r"course"),
    ):
        with pytest.raises(ConfigError, match=message):
            typed(Course, {"lessons": lessons}, "course")
    with pytest.raises(ConfigError, match=r"course\.lessons must be given"):
        typed(Course, {}, "course")


def test_a_registry_names_what_there_is() -> None:
    with pytest.raises(ConfigError, match="unknown merge 'magic': expected one of .*average"):
        choose(MERGES, {"name": "magic"}, "method")


def test_plain_resolves_interpolations() -> None:
    assert plain(OmegaConf.create({"a": 1, "b": "${a}", "c": [{"d": "${a}"}]})) == {"a": 1, "b": 1, "c": [{"d": 1}]}
