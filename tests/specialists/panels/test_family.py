"""The whole recipe on a tiny model and small tables: it reads, each specialist learns its side, stages resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from tests.conftest import composed
from tests.specialists import tiny_language_model as tiny
from tests.specialists.interrupted import resumed
from transformers import AutoModelForCausalLM, AutoTokenizer

from esmerge.core.compose import compose_choice
from esmerge.core.errors import BenchError, ConfigError, InputError
from esmerge.core.prompts import Answer, Entity, Example, Prompt
from esmerge.core.schema import choose
from esmerge.data.enzymes import enzyme_sequences
from esmerge.experiment.config import read_sweep
from esmerge.experiment.pipeline import execute_all
from esmerge.experiment.plan import plan_runs
from esmerge.experiment.weights import write_weights
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.panels.loading import read_lesson, records_hold_names
from esmerge.specialists.families.panels.reading import merge_into
from esmerge.specialists.families.panels.settings import LessonSettings
from esmerge.specialists.families.panels.wording import Wording
from esmerge.specialists.soft_tokens import stages
from esmerge.specialists.soft_tokens.encoder import SoftTokenEncoder
from esmerge.specialists.soft_tokens.training import Batches
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import Cache
from esmerge.tracking.store import RunFolder

ENZYMES = ("CYP1A2", "CYP2C9", "CYP2C19", "CYP2D6", "CYP3A4")
STEPS = {"reading": 3, "trunk": 10, "lora": 4, "alone": 2}
LESSONS = {
    "inhibits": {"expert": "molecule", "benchmark": "cyp_panel", "perceive": "molecule"},
    "enzyme": {"expert": "protein", "benchmark": "cyp_panel", "perceive": "partner"},
}


def write_tables(root: Path) -> None:
    """Small tables of the panel of enzymes, drawn answers."""
    rng = np.random.default_rng(0)
    smiles = ["C" * length + tail for length in range(1, 31) for tail in ("O", "N", "F")]
    (root / "cyp").mkdir(parents=True)
    for enzyme in ENZYMES:
        frame = pd.DataFrame({"SMILES": smiles, "label": rng.integers(0, 2, size=len(smiles))})
        frame.to_csv(root / "cyp" / f"{enzyme.lower()}_inhibitor.csv", index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, tables and a cache."""
    folder = tmp_path_factory.mktemp("panels")
    tiny.save_checkpoint(folder / "checkpoint")
    write_tables(folder / "data")
    return folder


@pytest.fixture(scope="module")
def config(folder: Path) -> Callable[..., dict[str, Any]]:
    base = {
        "name": "tiny",
        "kind": "panels",
        "experts": ["molecule", "protein"],
        "lessons": LESSONS,
        "checkpoint": str(folder / "checkpoint"),
        "dtype": "float32",
        "root": str(folder / "data"),
        "encoders": {"molecule": "count_fingerprint", "protein": "kmers"},
        "exam": 8,
        "reading": {"rank": 2, "alpha": 4.0, "steps": STEPS["reading"], "batch": 2, "questions": 2, "exam": 4},
        "encoder": {"steps": STEPS["trunk"], "batch": 8, "width": 16, "tokens": 2},
        "alignment": {"steps": STEPS["alone"], "batch": 4},
        "lora": {"rank": 2, "alpha": 4.0, "steps": STEPS["lora"], "batch": 4, "questions": 2, "replay": 0.25},
        "projector_rates": {"molecule": 0.01},
        "finetuning": {"steps": 2, "batch": 4, "rank": 2, "alpha": 4.0},
    }  # fmt: skip
    return lambda **changes: base | changes


def load(config: dict[str, Any], cache: Path) -> Specialists:
    selection = choose(SPECIALISTS, config, "specialists")
    return selection.entry.function(selection.settings, Context(0, Cache(cache)))


@pytest.fixture(scope="module")
def specialists(folder: Path, config: Callable[..., dict[str, Any]]) -> Specialists:
    return load(config(), folder / "cache")


def test_the_set_is_whole(specialists: Specialists) -> None:
    assert specialists.expert_modality == {"molecule": "molecule", "protein": "protein"}
    assert specialists.language == "brief" and list(specialists.encoders) == ["molecule", "protein"]
    assert set(specialists.pool["protein"]) == set(enzyme_sequences().values())
    assert not any(p.requires_grad for p in specialists.backbone.model.parameters())
    for state in specialists.adapters.values():
        assert any(factors.b.any() for factors in state.modules.values()), "training has moved it"


def test_all_share_a_backbone_that_has_read(folder: Path, specialists: Specialists) -> None:
    checkpoint = type(specialists.backbone.model).from_pretrained(folder / "checkpoint", dtype=torch.float32)
    before, after = (dict(model.named_parameters()) for model in (checkpoint, specialists.backbone.model))
    changed_names = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed_names and all("_proj" in name for name in changed_names)
    record = specialists.metadata["reading"]
    assert set(record["before"]) == set(record["after"]) == {"cyp_panel"}


def test_adapters_name_the_backbone_that_has_read(specialists: Specialists) -> None:
    names = {state.base_model for state in specialists.adapters.values()}
    assert names == {specialists.backbone.name}
    loaded = dict(AutoModelForCausalLM.from_pretrained(specialists.backbone.name).named_parameters())
    expected = dict(specialists.backbone.model.named_parameters())
    assert loaded.keys() == expected.keys() and all(torch.equal(loaded[name], expected[name]) for name in loaded)
    tokenizer = AutoTokenizer.from_pretrained(specialists.backbone.name)
    assert tokenizer.get_vocab() == specialists.backbone.tokenizer.get_vocab()


def test_an_adapter_is_merged_as_if_it_ran_beside_the_weights(specialists: Specialists) -> None:
    model = torch.nn.ModuleDict({"q": torch.nn.Linear(32, 32, bias=False)})
    state = specialists.adapters["molecule"]
    name = next(name for name in state.modules if name.endswith("layers.0.self_attn.q_proj"))
    factors, inputs = state.modules[name], torch.randn(5, 32)
    expected = model["q"](inputs) + factors.scale * inputs @ factors.a.T @ factors.b.T
    merge_into(model, type(state)({"base_model.model.q": factors}, "none"))
    assert torch.allclose(model["q"](inputs), expected, atol=1e-5)


def test_a_projector_learns_where_it_has_a_rate_and_stays_as_drawn_elsewhere(
    folder: Path, specialists: Specialists, config: Callable[..., dict[str, Any]]
) -> None:
    lora = {**config()["lora"], "steps": 1}
    fewer = load(config(lora=lora, control=False), folder / "cache")
    for modality, same in (("molecule", False), ("protein", True)):
        one_step, four_steps = (s.encoders[modality].state_dict() for s in (fewer, specialists))
        assert torch.equal(one_step["projector.layers.0.weight"], four_steps["projector.layers.0.weight"]) is same
        assert all(torch.equal(one_step[name], four_steps[name]) for name in one_step if name.startswith("trunk"))
    assert "projector alone molecule" in specialists.metadata and "projector alone molecule" not in fewer.metadata


def test_the_control_is_taught_what_is_perceived_in_batches_of_its_own(
    config: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_batches: dict[str, list[Sequence[Prompt]]] = {}

    def align(prompt_encoder: Any, encoder: SoftTokenEncoder, batches: Batches, *_: Any) -> float:
        drawn_batches[encoder.modality] = [batches(step) for step in range(3)]
        return 0.0

    monkeypatch.setattr(stages, "align", align)
    load(config(control=True, alignment={"steps": 2, "batch": 2}), tmp_path / "cache")
    assert list(drawn_batches) == ["molecule", "protein"]
    for modality, steps in drawn_batches.items():
        for prompts in steps:
            answers = sum(isinstance(part, Answer) for prompt in prompts for part in prompt)
            assert 0 < answers <= 2 * 2  # sequences of two questions at most; rare answers make them shorter, and more
            assert all(
                any(isinstance(part, Entity) and part.modality == modality for part in prompt) for prompt in prompts
            )


def test_each_lesson_is_examined_on_matched_questions_with_intervals(specialists: Specialists) -> None:
    for expert, lesson in (("molecule", "inhibits"), ("protein", "enzyme")):
        record = specialists.metadata[f"specialist {expert}"]
        for role in ("backbone", "specialist"):
            figures = record[role][lesson]
            assert figures["low"] <= figures["accuracy"] <= figures["high"] and 0 <= figures["ranking"] <= 1
            assert 0 < figures["questions"] <= 8
    exam = specialists.exam(specialists)
    gains = {name: figure for name, figure in exam.figures.items() if "gain over" in name}
    assert len(gains) == 4 and exam.required["backbone reads cyp_panel"] == 0.9
    assert exam.required["molecule specialist, inhibits"] == 0.65
    assert gains["protein specialist, enzyme, gain over backbone"] == pytest.approx(
        record["specialist"]["enzyme"]["accuracy"] - record["backbone"]["enzyme"]["accuracy"]
    )


def test_a_second_loading_trains_nothing(
    folder: Path, specialists: Specialists, config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmerge.specialists.soft_tokens.training.train", None)  # calling it would fail
    reloaded = load(config(), folder / "cache")
    assert reloaded.fingerprint == specialists.fingerprint and reloaded.metadata == specialists.metadata


def test_independent_starts_leave_the_first_expert_as_it_is(
    folder: Path, specialists: Specialists, config: Callable[..., dict[str, Any]]
) -> None:
    independent = load(config(shared_init=False), folder / "cache")
    tensors = {name: independent.adapters[name].tensors() for name in independent.adapters}
    expected = {name: specialists.adapters[name].tensors() for name in specialists.adapters}
    assert all(torch.equal(tensors["molecule"][key], value) for key, value in expected["molecule"].items())
    assert not any(torch.equal(tensors["protein"][key], value) for key, value in expected["protein"].items())


@pytest.mark.parametrize("stop_after", [1, 8, 15], ids=["reading", "trunk", "specialist"])
def test_interrupted_training_ends_where_it_would_have(
    stop_after: int,
    specialists: Specialists,
    tmp_path: Path,
    config: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reloaded, step_count = resumed(lambda: load(config(), tmp_path), stop_after, monkeypatch)
    assert reloaded.fingerprint == specialists.fingerprint
    total = STEPS["reading"] + 2 * (STEPS["trunk"] + STEPS["lora"] + STEPS["alone"])
    assert step_count == total - stop_after


def test_shipped_stages_are_found_whatever_number_format_runs_them(
    specialists: Specialists, tmp_path: Path, config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esmerge.specialists.stage_store.WEIGHTS", tmp_path)
    card = write_weights(specialists, tmp_path / "tiny" / "seed0", {"seed": 0})
    assert card["exam"]["required"]["backbone reads cyp_panel"] == 0.9
    assert str(card["number_format"]).startswith("bfloat16 and float32, as trained")
    files = [path for path in (tmp_path / "tiny").rglob("*.safetensors")]
    for path in files:
        with safe_open(path, "pt") as file:
            formats = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        assert formats == {"BF16"} or path.name == "trunk.safetensors"
    monkeypatch.setattr("esmerge.specialists.soft_tokens.training.train", None)  # calling it would fail
    for dtype in ("float32", "bfloat16"):
        reloaded = load(config(weights="tiny", dtype=dtype), tmp_path / f"cache-{dtype}")
        for name, state in reloaded.adapters.items():
            expected = specialists.adapters[name].tensors()
            assert all(torch.equal(tensor, expected[key]) for key, tensor in state.tensors().items())
        assert (reloaded.fingerprint == specialists.fingerprint) is (dtype == "float32")


def test_a_modality_without_an_encoder_is_read_as_text(config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    reader = load(config(encoders={"protein": "kmers"}, projector_rates={}), tmp_path)
    assert list(reader.encoders) == ["protein"] and "projector alone molecule" not in reader.metadata
    assert any(factors.b.any() for factors in reader.adapters["molecule"].modules.values())
    assert reader.metadata["specialist molecule"]["specialist"]["inhibits"]["questions"] > 0


WRONG: dict[str, tuple[dict[str, Any], type[BenchError], str]] = {
    "no root": ({"root": None}, ConfigError, "tables of cyp_panel"),
    "root is not there": ({"root": "/nowhere"}, InputError, "/nowhere"),
    "an expert without lessons": ({"experts": ["molecule", "cell"]}, ConfigError, "teaches cell nothing"),
    "one expert": ({"experts": ["molecule"]}, ConfigError, "two or more"),
    "no panel": ({"lessons": LESSONS | {"more": {**LESSONS["enzyme"], "benchmark": "human"}}}, ConfigError, "a panel"),
    "a side": ({"lessons": LESSONS | {"more": {**LESSONS["enzyme"], "perceive": "both"}}}, ConfigError, "'both'"),
    "two modalities": (
        {"lessons": LESSONS | {"more": {**LESSONS["inhibits"], "expert": "protein"}}},
        ConfigError,
        "'protein' protein and molecule",
    ),
    "two experts of one modality": (
        {"lessons": LESSONS | {"more": {**LESSONS["inhibits"], "expert": "twin"}}, "experts": ["molecule", "twin"]},
        ConfigError,
        "two experts perceive molecule",
    ),
    "a rate for nobody": ({"projector_rates": {"virus": 0.1}}, ConfigError, "virus, which is no expert"),
    "steps for nobody": ({"steps": {"virus": 5}}, ConfigError, "steps names virus, which is no expert"),
    "no steps": ({"steps": {"molecule": 0}}, ConfigError, "molecule: 0"),
    "nothing perceived": (
        {"lora": {"rank": 2, "alpha": 4.0, "steps": 4, "batch": 4, "replay": 0.5, "foreign": 0.5}},
        ConfigError,
        "nothing that is perceived in a batch of 4",
    ),
    "a rate of 0": ({"projector_rates": {"molecule": 0.0}}, ConfigError, "molecule: 0.0"),
}


@pytest.mark.parametrize("perceive", ["molecule", "partner"])
def test_a_panel_of_too_few_names_is_refused(perceive: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = compose_choice("benchmark", "cyp_panel")
    few = {**node, "tables": dict(list(node["tables"].items())[:3])}
    monkeypatch.setattr("esmerge.specialists.families.panels.loading.compose_choice", lambda group, name: few)
    lesson = LessonSettings("x", "cyp_panel", perceive)
    with pytest.raises(InputError, match="CYP1A2, CYP2C19, CYP2C9: expected 4 names or more"):
        read_lesson("few", lesson, str(folder / "data"), "brief", 0)


def test_a_side_whose_partner_has_no_record_is_refused() -> None:
    wording = Wording("ddi_panel", "Drug: ", "\nDrug: ", 6)
    ids = [Example("1", ("Drug: DB01\nDrug: DB02",), ("No", "Yes"), 1)]
    records = [Example("1", ("Drug: DB02 Yes, DB03 No\nDrug: DB02",), ("No", "Yes"), 1)]
    assert not records_hold_names(ids, wording) and records_hold_names(records, wording)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_named(name: str, config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    changes, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        load(config(**changes), tmp_path)


def test_a_whole_job_on_a_panel_and_on_its_text_form(
    folder: Path, config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    for perceive in ("both", "molecule"):
        raw = composed(
            *("specialists=smollm2", "granularity=layer", "benchmark=cyp_panel", f"benchmark.root={folder / 'data'}"),
            *("benchmark.limit=6", f"benchmark.perceive={perceive}", "probe.samples=3", f"cache={folder / 'cache'}"),
            *("references=[base,expert,average@delta]", "tracking=disabled"),
        )
        raw.specialists = config()
        specs = plan_runs(read_sweep(raw))
        assert execute_all(specs, tmp_path / perceive) == []
        for spec in specs:
            predictions = pd.read_csv(RunFolder(tmp_path / perceive / spec.name).path / "predictions" / "cyp_panel.csv")
            assert len(predictions) == 6 and predictions["score"].between(0, 1).all()
