"""A tiny language model taught on small tables: what is cached, resumed and refused, and a whole job on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.conftest import composed
from tests.specialists import tiny_language_model as tiny
from tests.specialists.interrupted import resumed

from esmerge.core.errors import BenchError, ConfigError, InputError
from esmerge.core.prompts import Entity
from esmerge.core.schema import choose
from esmerge.experiment.config import read_sweep
from esmerge.experiment.context import load_specialists
from esmerge.experiment.pipeline import execute_all
from esmerge.experiment.plan import plan_runs
from esmerge.experiment.suite import load_suite
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import Cache
from esmerge.tracking.store import RunFolder

KINDS = ("language-model-alignment", "language-model-encoder", "language-model-specialist")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, tables and a cache."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny.save_checkpoint(folder / "checkpoint")
    tiny.write_tables(folder / "data")
    return folder


@pytest.fixture(scope="module")
def config(place: Path) -> Callable[..., dict[str, Any]]:
    return lambda **changes: tiny.config(place / "checkpoint", place / "data") | changes


def load(config: dict[str, Any], cache: Path) -> Specialists:
    selection = choose(SPECIALISTS, config, "specialists")
    return selection.entry.function(selection.settings, Context(0, Cache(cache)))


@pytest.fixture(scope="module")
def specialists(place: Path, config: Callable[..., dict[str, Any]]) -> Specialists:
    return load(config(), place / "cache")


def stages(cache: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for kind in KINDS for path in (cache / kind).glob("*") if path.is_dir()}


def test_the_specialists_are_whole(specialists: Specialists) -> None:
    assert list(specialists.adapters) == ["molecule", "protein", "cell"] and specialists.language == "english"
    assert list(specialists.encoders) == ["molecule", "protein"], "cells are read as text"
    assert specialists.backbone.model.dtype == torch.bfloat16
    assert not any(p.requires_grad for p in specialists.backbone.model.parameters())
    for state in specialists.adapters.values():
        assert any(f.b.any() for f in state.modules.values()), "training has moved it"
        assert all(tensor.dtype == torch.float32 for tensor in state.tensors().values())
        assert len(state.modules) == 2 * 7


def test_own_modality_is_examined_before_and_after(specialists: Specialists) -> None:
    for expert in specialists.adapters:
        record = specialists.metadata[f"specialist {expert}"]
        questions = record["specialist_questions"]
        assert questions == record["backbone_questions"] > 0
        for name in ("backbone_accuracy", "specialist_accuracy"):
            correct_count = record[name] * questions
            assert 0 <= correct_count <= questions and correct_count == pytest.approx(round(correct_count))


def test_soft_tokens_are_as_long_as_words_and_invalid_entities_are_named(specialists: Specialists) -> None:
    words = specialists.backbone.model.get_input_embeddings().weight.float()
    for modality, encoder in specialists.encoders.items():
        for tokens in encoder.encode(specialists.pool[modality][:3]):
            assert tokens.shape == (2, words.shape[1])
            lengths = tokens.square().mean(dim=1).sqrt()
            assert torch.allclose(lengths, words.square().mean().sqrt().expand(2), rtol=1e-3)
    with pytest.raises(InputError, match="C1CC"):
        specialists.encoders["molecule"].encode(["CCO", "C1CC"])
    with pytest.raises(InputError, match="'1' at position 3"):
        specialists.encoders["protein"].encode(["MK1A"])
    with pytest.raises(InputError, match="empty"):
        specialists.encoders["protein"].encode([""])


def test_an_encoder_sees_every_residue_of_a_long_chain(specialists: Specialists) -> None:
    chain = "M" * 5000
    first, second = specialists.encoders["protein"].encode([chain, chain[:2500] + "W" + chain[2501:]])
    assert not torch.equal(first, second)


def test_a_second_loading_trains_nothing_and_gives_the_same_specialists(
    specialists: Specialists, place: Path, config: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stages(place / "cache")
    monkeypatch.setattr("esmerge.specialists.soft_tokens.training.train", None)  # calling it would fail
    reloaded = load(config(), place / "cache")
    assert stages(place / "cache") == before and len(before) == 2 + 2 + 3
    assert reloaded.fingerprint == specialists.fingerprint and reloaded.metadata == specialists.metadata


def test_what_a_change_trains_again(
    specialists: Specialists, place: Path, config: Callable[..., dict[str, Any]]
) -> None:
    lessons = tiny.lessons()
    lessons["size"]["above"] = 14
    before = set(stages(place / "cache"))
    retrained = load(config(lessons=lessons), place / "cache")
    kinds = sorted(path.parent.name for path in set(stages(place / "cache")) - before)
    assert kinds == list(KINDS), "the molecules' stages alone"
    assert retrained.fingerprint != specialists.fingerprint
    for name in ("protein", "cell"):
        tensors, expected = retrained.adapters[name].tensors(), specialists.adapters[name].tensors()
        assert all(torch.equal(tensors[key], expected[key]) for key in tensors)


@pytest.mark.parametrize("stop_after", [3, 22, 30], ids=["encoder", "alignment", "specialist"])
def test_interrupted_training_ends_where_it_would_have(
    stop_after: int,
    specialists: Specialists,
    tmp_path: Path,
    config: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reloaded, step_count = resumed(
        lambda: load(config(experts=["molecule", "cell"]), tmp_path), stop_after, monkeypatch
    )
    assert step_count < 20 + 4 + 2 * 4, "some steps were not taken again"
    for name, state in reloaded.adapters.items():
        expected = specialists.adapters[name].tensors()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in state.tensors().items())


def test_held_out_entities_are_in_no_pool_and_each_modality_has_one(specialists: Specialists, place: Path) -> None:
    assert set(specialists.pool) == set(specialists.modalities)
    for modality, table, column in (("molecule", "m.csv", "SMILES"), ("protein", "p.csv", "sequence")):
        entities = set(pd.read_csv(place / "data" / table)[column])
        pool = set(specialists.pool[modality])
        assert 0.5 * len(entities) < len(pool) < len(entities)
    assert all(len(value.split()) == 3 for value in specialists.pool["cell"]), "cut to so many words"


def test_two_experts_of_one_modality_share_its_encoder(
    place: Path, config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    lessons = tiny.lessons()
    lessons["fold"] |= lessons["size"] | {"expert": "weigher", "above": 20, "classes": None}
    pair = load(config(lessons=lessons, experts=["molecule", "weigher"]), tmp_path)
    assert pair.expert_modality == {"molecule": "molecule", "weigher": "molecule"} and pair.modalities == ("molecule",)
    assert list(pair.encoders) == ["molecule"]


def without(lesson: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in lesson.items() if key not in keys}


SIZE = tiny.lessons()["size"]
WRONG: dict[str, tuple[dict[str, Any], type[BenchError], str]] = {
    "no root": ({"root": None}, ConfigError, r"specialists\.root.*m\.csv"),
    "root is not there": ({"root": "/nowhere"}, InputError, "/nowhere"),
    "dtype": ({"dtype": "int8"}, ConfigError, "int8.*bfloat16"),
    "one expert": ({"experts": ["cell"]}, ConfigError, "two or more"),
    "an expert without lessons": ({"experts": ["cell", "virus"]}, ConfigError, "virus.*nothing"),
    "features": ({"encoders": {"molecule": "graph"}}, ConfigError, "graph.*fingerprint"),
    "held out": ({"held_out": 1.0}, ConfigError, "held_out=1"),
}
WRONG_LESSONS: dict[str, tuple[dict[str, Any], type[BenchError], str]] = {
    "table": ({**SIZE, "table": "none.csv"}, InputError, "size.*none.csv"),
    "entity column": ({**SIZE, "entity": "smile"}, InputError, "no column smile; it has SMILES, weight, note"),
    "answer column": ({**SIZE, "answer": "logP"}, InputError, "no column logP"),
    "rows column": ({**SIZE, "rows": {"split": "train"}}, InputError, "no column split"),
    "no way to answer": (without(SIZE, "above"), ConfigError, "none of above, contains, classes"),
    "two ways to answer": ({**SIZE, "contains": "1"}, ConfigError, "above, contains"),
    "one label": ({**SIZE, "labels": ["Yes", "Yes"]}, ConfigError, "two different"),
    "missing setting": (without(SIZE, "prompt"), ConfigError, r"lessons\.size\.prompt"),
    "unknown setting": ({**SIZE, "colour": 1}, ConfigError, "colour"),
    "placeholder": ({**SIZE, "prompt": "Is {drug} large?"}, ConfigError, "drug"),
    "a label nobody has": ({**SIZE, "above": 1000}, InputError, "no train row for Yes"),
    "not a number": ({**SIZE, "answer": "note"}, InputError, "60 of 60.*'heavy' is not a number"),
    "one column": ({**SIZE, "answer": "SMILES"}, ConfigError, "one column, SMILES"),
    "not a molecule": ({**SIZE, "entity": "weight", "answer": "note"}, InputError, "not a valid molecule"),
    "class without a label": (
        {**without(SIZE, "above"), "answer": "weight", "classes": {"1": "Maybe"}}, ConfigError, "Maybe.*labels"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_named(name: str, config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    changes, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        load(config(**changes), tmp_path)


@pytest.mark.parametrize("name", WRONG_LESSONS)
def test_wrong_lessons_are_named(name: str, config: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    lesson, error, words = WRONG_LESSONS[name]
    with pytest.raises(error, match=words):
        load(config(lessons={**tiny.lessons(), "size": lesson}), tmp_path)


@pytest.mark.parametrize("granularity", ["layer", "element", "joint"])
def test_a_whole_job(
    granularity: str, specialists: Specialists, place: Path, config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    raw = composed(
        "specialists=smollm2",
        f"granularity={granularity}",
        "benchmark=human",
        f"benchmark.root={place / 'data'}",
        "benchmark.limit=6",
        "probe.samples=3",
        "references=[base,expert,finetuned,average@delta]",
        "tracking=disabled",
        f"cache={place / 'cache'}",
    )
    raw.specialists = config()
    sweep = read_sweep(raw)
    specs = plan_runs(sweep)
    assert execute_all(specs, tmp_path) == []
    assert load_specialists(sweep).fingerprint == specialists.fingerprint, "taken from the cache"
    for spec in specs:
        predictions = pd.read_csv(RunFolder(tmp_path / spec.name).path / "predictions" / "human.csv")
        assert len(predictions) == 6 and predictions["score"].between(0, 1).all()
    benchmark = load_suite(sweep)[0]
    assert "Final answer:" in "".join(
        segment for segment in benchmark.test[0].prompt if not isinstance(segment, Entity)
    )
