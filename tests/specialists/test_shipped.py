"""Trained stages that are shipped: taken for the settings that made them, checked, and made again where asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.conftest import make_specialists

from esmerge.core.errors import ConfigError, StoreError
from esmerge.experiment.weights import write_weights
from esmerge.specialists import stage_store
from esmerge.specialists.shipped import CARD, ShippedStages
from esmerge.specialists.specialists import Exam, Specialists
from esmerge.storage.cache import digest
from esmerge.storage.files import write_json

STAGES = {"textbook-alignment", "textbook-backbone", "textbook-encoder", "textbook-specialist"}


@pytest.fixture(scope="module")
def written(tiny_specialists: Specialists, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny specialists of seed 0, written as they are shipped."""
    folder = tmp_path_factory.mktemp("weights")
    write_weights(make_specialists(shared_cache), folder / "textbook" / "seed0", {"command": "by a test"})
    return folder


@pytest.fixture
def shipped(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that may be spoilt, where the program looks; the folder of seed 0."""
    shutil.copytree(written, tmp_path / "weights")
    monkeypatch.setattr(stage_store, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights" / "textbook" / "seed0"


def trained(cache: Path) -> set[str]:
    """Kinds of stages that were trained into a cache."""
    return {path.parent.parent.name for path in cache.glob("*/*/key.json")}


def test_shipped_specialists_are_those_that_were_trained(
    shipped: Path, tiny_specialists: Specialists, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    state = torch.get_rng_state()
    loaded = make_specialists(tmp_path / "cache")
    assert torch.equal(torch.get_rng_state(), state), "loading draws no random number"
    assert trained(tmp_path / "cache") == set() and "is trained now" not in capsys.readouterr().err
    assert loaded.fingerprint == tiny_specialists.fingerprint and loaded.metadata == tiny_specialists.metadata
    assert loaded.pool == tiny_specialists.pool
    for name, adapter in loaded.adapters.items():
        expected = tiny_specialists.adapters[name].tensors()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in adapter.tensors().items())
        assert adapter.base_model == loaded.backbone.name == str((shipped / "textbook-backbone" / "backbone").resolve())


def test_what_is_written_says_how_it_was_made_and_names_no_folder_of_this_machine(written: Path) -> None:
    folder = written / "textbook" / "seed0"
    card = json.loads((folder / CARD).read_text())
    assert card["command"] == "by a test" and card["exam"]["figures"].keys() >= card["exam"]["required"].keys()
    assert {"torch", "transformers", "peft", "python"} <= set(card["versions"]) and card["torch_threads"] == 1
    texts = [path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".md")]
    assert len(texts) > 6 and not any(str(written.parent) in text or "textbook-backbone/" in text for text in texts)
    assert not list(folder.rglob("key.json"))
    listed = {
        Path(kind, name, file)
        for kind, entries in card["stages"].items()
        for name, entry in entries.items()
        for file in entry["files"]
    }
    assert listed == {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} - {Path(CARD)}


FILES = (
    "textbook-backbone/backbone/model.safetensors",
    "textbook-backbone/backbone/tokenizer.json",
    "textbook-alignment/protein/protein.safetensors",
    "textbook-specialist/cell/adapter/adapter_config.json",
    "textbook-specialist/cell/adapter/adapter_model.safetensors",
    "card.json",
)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_by_name(shipped: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((shipped / name).read_bytes())
    content[len(content) // 2] ^= 1
    (shipped / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"seed0/{name}.*(expected|checksum|not valid JSON)"):
        make_specialists(tmp_path / "cache")
    assert trained(tmp_path / "cache") == set(), "another world is not made in silence"


@pytest.mark.parametrize("name", FILES)
def test_an_absent_file_is_refused_by_name(shipped: Path, tmp_path: Path, name: str) -> None:
    (shipped / name).unlink()
    with pytest.raises(StoreError, match=f"seed0/{name} does not exist.*specialists.retrain=true"):
        make_specialists(tmp_path / "cache")
    if name == CARD:
        make_specialists(tmp_path / "cache", "specialists.retrain=true")


@pytest.mark.parametrize(
    ("override", "kinds", "message"),
    [
        ("specialists.lora.rate=0.5", {"textbook-specialist"}, "lora.rate=0.5, shipped 0.001"),
        ("specialists.interference=strong", {"textbook-specialist"}, "lora.rate=0.002, shipped 0.001"),
        ("specialists.shared_init=false", {"textbook-specialist"}, "init=1000, shipped 0"),
        ("specialists.reading.steps=3", STAGES, "reading.steps=3, shipped 4"),
        ("specialists.world.train_entities=121", STAGES, "world.train_entities=121, shipped 120"),
        ("specialists.retrain=true", STAGES, "specialists.retrain=true"),
        ("specialists.finetuning.steps=3", set(), ""),
        ("specialists.world.questions=24", set(), ""),
        ("specialists.experts=[cell,protein]", set(), ""),
    ],
)
def test_other_settings_train_what_depends_on_them_and_say_so_in_one_line(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture, override: str, kinds: set[str], message: str
) -> None:
    make_specialists(tmp_path / "cache", override)
    assert trained(tmp_path / "cache") == kinds
    lines = [line for line in capsys.readouterr().err.splitlines() if "is trained now" in line]
    assert len(lines) == (1 if kinds else 0) and all(message in line for line in lines)
    make_specialists(tmp_path / "cache", override)
    assert "is trained now" not in capsys.readouterr().err, "the cache has it"


def test_a_stage_stands_for_the_settings_that_its_card_lists(shipped: Path) -> None:
    card = json.loads((shipped / CARD).read_text())
    stage = card["stages"]["textbook-specialist"]["cell"]
    other = {**stage["settings"], "init": 7}
    assert ShippedStages(shipped).find("textbook-specialist", "cell", other) is None
    stage["stands_for"] = [{"settings": {"init": 7}, "because": "a test says so"}]
    write_json(shipped / CARD, {**card, "checksum": digest({key: card[key] for key in card if key != "checksum"})})
    changed = ShippedStages(shipped)
    for settings in (stage["settings"], other):
        assert changed.find("textbook-specialist", "cell", settings) == shipped / "textbook-specialist" / "cell"
    assert changed.find("textbook-specialist", "cell", {**other, "seed": 9}) is None


def test_other_seeds_train_and_say_which_are_shipped(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_specialists(tmp_path / "cache", seed=3)
    assert trained(tmp_path / "cache") == STAGES
    assert "weights are shipped for seed 0, not for 3" in capsys.readouterr().err


def test_an_exam_names_the_figures_that_are_too_low() -> None:
    exam = Exam({"a": 0.5, "b": float("nan"), "c": 0.1, "d": 0.9}, {"a": 0.6, "b": 0.1, "d": 0.9})
    assert exam.failures() == ["a is 0.500, expected at least 0.6", "b is nan, expected at least 0.1"]


def test_specialists_that_train_nothing_have_nothing_to_write(tmp_path: Path) -> None:
    from tests import small

    with pytest.raises(ConfigError, match="specialists=small train nothing here"):
        write_weights(small.specialists({"a": "cell", "b": "cell"}), tmp_path / "out", {})
    assert not (tmp_path / "out").exists()
