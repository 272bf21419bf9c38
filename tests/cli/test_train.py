"""The front door to training, end to end: what it trains, takes from the cache, copies out, and refuses to touch."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import make_specialists
from transformers import AutoModelForCausalLM

from esmerge.cli import train
from esmerge.cli.train import stages_to_renew
from esmerge.core.errors import ConfigError
from esmerge.core.schema import Selection
from esmerge.specialists import stage_store
from esmerge.specialists.api import SPECIALISTS
from esmerge.specialists.families.custom.settings import CustomSettings
from esmerge.specialists.families.textbook.settings import TextbookSettings
from esmerge.specialists.specialists import Specialists
from esmerge.tasks.seen import read_seen

Stamps = dict[str, int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Call the front door."""

    def running(cache: Path, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["train", "specialists=textbook_tiny", f"cache={cache}", *arguments])
        train.main()

    return running


@pytest.fixture
def trained(tiny_specialists: Specialists, shared_cache: Path, tmp_path: Path) -> Path:
    """A cache of its own that holds the tiny specialists."""
    for stage in TextbookSettings.stages:
        shutil.copytree(shared_cache / stage, tmp_path / "trained" / stage)
    return tmp_path / "trained"


def stamps(cache: Path) -> Stamps:
    """Inode of every finished stage: another one is another folder."""
    return {f"{key.parent.parent.name}/{key.parent.name}": key.stat().st_ino for key in cache.glob("*/*/key.json")}


def kinds(names: set[str]) -> set[str]:
    return {name.partition("/")[0] for name in names}


def test_it_trains_copies_adapters_that_peft_loads_and_finds_all_in_the_cache_again(
    run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    run(cache, f"out={out}")
    assert "cell: 14 adapted modules, perceives cell" in capsys.readouterr().out
    first = stamps(cache)
    assert kinds(set(first)) == set(TextbookSettings.stages)
    run(cache, f"out={tmp_path / 'again'}")
    assert stamps(cache) == first
    assert {path.name for path in out.iterdir()} == {"molecule", "protein", "cell"}
    for folder in out.iterdir():
        base = peft.PeftConfig.from_pretrained(folder).base_model_name_or_path
        assert Path(base).parent == cache / "textbook-backbone"
        model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
        state = peft.get_peft_model_state_dict(model)
        tensors = load_file(tmp_path / "again" / folder.name / "adapter_model.safetensors")
        assert set(state) == set(tensors) and all(torch.equal(state[name], tensors[name]) for name in tensors)
        assert any(tensor.count_nonzero() for name, tensor in state.items() if "lora_B" in name)


def test_what_was_taught_is_listed(run, trained: Path, tmp_path: Path, tiny_specialists: Specialists) -> None:
    run(trained, f"seen={tmp_path / 'seen'}")
    entities = read_seen(str(tmp_path / "seen"), "toy")
    assert entities == {modality: list(dict.fromkeys(pool)) for modality, pool in tiny_specialists.taught.items()}


def test_weights_are_written_and_then_used_by_seed(
    run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    weights = tmp_path / "weights"
    options = ("seed=0", "specialists.retrain=true", "finetuned=[drug_cell,cell_lineage]")
    trained_on = "trained_on='another machine, 9 steps'"
    run(trained, *options, f"weights={weights / 'textbook' / 'seed0'}", f"out={tmp_path / 'out'}", trained_on)
    card = json.loads((weights / "textbook" / "seed0" / "card.json").read_text())
    assert card["command"].startswith("python -m src.train specialists=textbook_tiny seed=0")
    assert not any(word in card["command"] for word in ("cache=", "out=", "trained_on=")) and card["seed"] == 0
    assert card["trained_on"] == "another machine, 9 steps" and card["number_format"].startswith("float32, as trained")
    assert set(card["stages"]["finetuned"]) == {"drug_cell", "cell_lineage"} and len(card["config_hash"]) == 16
    assert card["exam"]["passed"] is False, "these have learnt nothing"

    monkeypatch.setattr(stage_store, "WEIGHTS", weights)
    assert "is trained now" in capsys.readouterr().err
    run(tmp_path / "empty", "finetuned=[drug_cell]")
    assert stamps(tmp_path / "empty") == {} and "is trained now" not in capsys.readouterr().err
    run(tmp_path / "empty", "finetuned=[drug_cell,drug_protein]")
    assert kinds(set(stamps(tmp_path / "empty"))) == {"finetuned"}
    assert "no finetuned drug_protein is shipped" in capsys.readouterr().err
    run(tmp_path / "empty", "retrain=[textbook-specialist]")
    assert kinds(set(stamps(tmp_path / "empty"))) == {"finetuned", "textbook-specialist"}
    assert "a sweep reads it with specialists.retrain=true" in capsys.readouterr().err


def test_a_stage_is_made_again_for_the_settings_at_hand_alone(run, trained: Path) -> None:
    make_specialists(trained, "specialists.lora.rank=2")
    before = stamps(trained)
    run(trained, "retrain=[textbook-specialist]")
    after = stamps(trained)
    changes = {name for name in before if after[name] != before[name]}
    assert set(after) == set(before)
    assert kinds(changes) == {"textbook-specialist"} and len(changes) == 3
    assert sum(name.startswith("textbook-specialist/") for name in before) >= 6


def test_a_stage_that_nothing_asks_for_is_said(run, trained: Path) -> None:
    before = stamps(trained)
    with pytest.raises(SystemExit, match="textbook-encoder was not made again.* name that too: textbook-alignment"):
        run(trained, "retrain=[textbook-encoder]")
    assert stamps(trained) == before
    run(trained, "retrain=[textbook-encoder,textbook-alignment]")
    changes = {name for name, stamp in stamps(trained).items() if before[name] != stamp}
    assert kinds(changes) == {"textbook-encoder", "textbook-alignment"}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/tmp", "textbook-backbone/../..", "textbook-backbone/", "signals", "language-model-encoder"],
)
def test_only_stages_of_these_specialists_are_made_again(run, tmp_path: Path, name: str) -> None:
    cache = tmp_path / "place" / "cache"
    files = [tmp_path / "place" / "beside", cache / "textbook-backbone" / "0" / "key.json", cache / "signals" / "x"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises(SystemExit) as refusal:
        run(cache, f"retrain=['{name}']")
    assert f"have no stage {name!r}: expected some of textbook-backbone, textbook-encoder" in str(refusal.value)
    assert all(file.exists() for file in files)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(files)


def test_specialists_that_are_not_trained_have_no_stages() -> None:
    settings = CustomSettings(backbone="backbone", experts={"a": "a", "b": "b"})
    custom = Selection("custom", SPECIALISTS.get("custom"), settings)
    with pytest.raises(ConfigError, match="these specialists are not trained here"):
        stages_to_renew("textbook-backbone", custom)
    assert stages_to_renew([], custom) == frozenset()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("weights=elsewhere", "weights: says nothing of one specialist: leave it out with specialist=cell"),
        ("specialist=protein", "specialist='protein': specialists.teaching names cell"),
        ("cache=cache", "specialists.root is not set: give the folder that holds the tables of cell_type"),
    ],
)
def test_one_specialist_alone(word: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"specialists": "llama31_8b", "specialist": "cell", "specialists.backbone": "none", "threads": "1"}
    settings |= dict([word.split("=")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", *(f"{key}={value}" for key, value in settings.items())])
    with pytest.raises(SystemExit, match=message):
        train.main()
