"""The whole recipe on a tiny model: it reads, projector and LoRA learn together, stages resume, a control is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.specialists import tiny_language_model as tiny

from esmerge.core.errors import ConfigError
from esmerge.core.schema import choose
from esmerge.model import training
from esmerge.specialists.api import SPECIALISTS, Context
from esmerge.specialists.families.language_model.forms import FormSettings
from esmerge.specialists.families.language_model.number_formats import FORMATS, faster_format
from esmerge.specialists.families.language_model.reading import ReadingSettings, first_batches, forms_in, merge_into
from esmerge.specialists.specialists import Specialists
from esmerge.storage.cache import Cache

READING = {
    "rank": 2, "alpha": 4.0, "steps": 3, "batch": 2, "questions": 3, "exam": 4,
    "forms": {"binds": {"facts": ["It binds {yes}, but not {no}.\n"], "questions": ["{name}?"],
                        "names": {name: name for name in "ABCDE"}}},
}  # fmt: skip
LORA = {"rank": 2, "alpha": 4.0, "steps": 4, "batch": 4, "questions": 3, "replay": 0.25, "projector_rate": 0.01,
        "control": True}  # fmt: skip


class Stopped(Exception):
    """What a test raises in the middle of training."""


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    lessons = {"size": tiny.lessons()["size"], "kind": tiny.lessons()["kind"]}
    lessons["odd"] = {**lessons["size"], "answer": "odd", "above": 0}
    base = tiny.config(folder / "checkpoint", folder / "data")
    told = {"experts": ["molecule", "cell"], "lessons": lessons, "reading": READING, "lora": LORA, "held_out": 0.4}
    return base | told | {"encoders": {"molecule": "count_fingerprint"}} | changes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    tiny.save_checkpoint(folder / "checkpoint")
    tiny.write_tables(folder / "data")
    table = pd.read_csv(folder / "data" / "m.csv")
    table["odd"] = [int("O" in value) for value in table["SMILES"]]
    table.to_csv(folder / "data" / "m.csv", index=False)
    return folder


def load(told: dict[str, Any], cache: Path, seed: int = 0) -> Specialists:
    chosen = choose(SPECIALISTS, told, "specialists")
    return chosen.entry.function(chosen.settings, Context(seed, Cache(cache)))


@pytest.fixture(scope="module")
def taught(place: Path) -> Specialists:
    return load(config(place), place / "cache")


def test_all_share_a_backbone_that_has_read(place: Path, taught: Specialists) -> None:
    unread = load(config(place, reading={}, lora={**LORA, "replay": 0.0}), place / "unread")
    before, after = (dict(s.backbone.model.named_parameters()) for s in (unread, taught))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("_proj" in name for name in changed)
    assert unread.backbone.fingerprint != taught.backbone.fingerprint and "reading" not in unread.metadata
    recorded = taught.metadata["reading"]
    assert set(recorded["before"]) == set(recorded["after"]) == {"binds"}
    assert all(0 <= share <= 1 for share in recorded["after"].values())


def test_forms_come_in_one_after_the_other() -> None:
    form = FormSettings(["{yes}, not {no}."], ["{name}?"], {name: name for name in "ABCD"})
    told = ReadingSettings(steps=100, entering=0.5, forms={"one": form, "two": replace(form, questions=["Is {name}?"])})
    assert [forms_in(told, step) for step in (0, 24, 25, 49, 50, 99)] == [1, 1, 2, 2, 2, 2]
    assert forms_in(replace(told, entering=0.0), 0) == 2
    early, late = (str(first_batches(told, 0)(step)) for step in (3, 60))
    assert "Is " not in early and "Is " in late


def test_an_adapter_is_merged_as_if_it_ran_beside_the_weights(taught: Specialists) -> None:
    model = torch.nn.ModuleDict({"q": torch.nn.Linear(32, 32, bias=False)})
    state = taught.adapters["molecule"]
    name = next(name for name in state.modules if name.endswith("layers.0.self_attn.q_proj"))
    factors, inputs = state.modules[name], torch.randn(5, 32)
    expected = model["q"](inputs) + factors.scale * inputs @ factors.a.T @ factors.b.T
    merge_into(model, type(state)({"base_model.model.q": factors}, "none"))
    assert torch.allclose(model["q"](inputs), expected, atol=1e-5)


def test_projector_and_lora_have_both_moved(place: Path, taught: Specialists) -> None:
    fewer = load(config(place, lora={**LORA, "steps": 1, "control": False}), place / "cache")
    one, four = (s.encoders["molecule"].state_dict() for s in (fewer, taught))
    assert all(torch.equal(one[name], four[name]) for name in one if name.startswith("trunk"))
    assert not torch.equal(one["projector.weight"], four["projector.weight"])
    assert any(factors.b.any() for factors in taught.adapters["molecule"].modules.values())
    assert not any(parameter.requires_grad for parameter in taught.encoders["molecule"].parameters())
    assert "projector alone molecule" in taught.metadata
    assert "projector alone molecule" not in fewer.metadata


def test_figures_have_intervals_in_a_matched_exam(place: Path) -> None:
    examined = load(config(place, exam_form="matched"), place / "m")
    assert "specialist_ranking" not in examined.metadata["specialist cell"], "its one lesson has no opposite"
    recorded = examined.metadata["specialist molecule"]
    for who in ("backbone", "specialist"):
        assert recorded[f"{who}_low"] <= recorded[f"{who}_accuracy"] <= recorded[f"{who}_high"]
        assert recorded[f"{who}_questions"] > 0 and 0 <= recorded[f"{who}_ranking"] <= 1


def test_a_second_loading_trains_nothing(place: Path, taught: Specialists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmerge.specialists.soft_tokens.training.train", None)  # calling it would fail
    again = load(config(place), place / "cache")
    assert again.fingerprint == taught.fingerprint and again.metadata == taught.metadata


@pytest.mark.parametrize("stop_after", [1, 10, 25], ids=["reading", "trunk", "together"])
def test_interrupted_training_ends_where_it_would_have(
    stop_after: int, place: Path, taught: Specialists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, steps = training._update, iter(range(1000))

    def stopping(*args: Any) -> None:
        if next(steps) == stop_after:
            raise Stopped
        update(*args)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_update", stopping)
        with pytest.raises(Stopped):
            load(config(place), tmp_path)
    taken: list[None] = []
    monkeypatch.setattr(training, "_update", lambda *args: (taken.append(None), update(*args))[1])
    assert load(config(place), tmp_path).fingerprint == taught.fingerprint
    assert len(taken) == 3 + 20 + 4 + 4 + 4 - stop_after, "reading, trunk, projector with LoRA, control, cell's LoRA"


def test_what_cannot_be_taught_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="replay=0.25 repeats what was read"):
        load(config(place, reading={}), tmp_path)
    twins = config(place)["lessons"]
    twins["odd"] |= {"expert": "twin"}
    with pytest.raises(ConfigError, match="two experts perceive molecule"):
        load(config(place, lessons=twins, experts=["molecule", "twin"]), tmp_path)
    with pytest.raises(ConfigError, match="exam_form='pairs'"):
        load(config(place, exam_form="pairs"), tmp_path)
    named = config(place)["lessons"]
    named["kind"] |= {"form": "kinds"}
    with pytest.raises(ConfigError, match=r"kind\.form='kinds'.*binds"):
        load(config(place, lessons=named), tmp_path)
    named["kind"] |= {"form": "binds"}
    with pytest.raises(ConfigError, match="set exam_form=matched"):
        load(config(place, lessons=named), tmp_path)
    with pytest.raises(ConfigError, match="Monocyte, T is no class of its form, which has A, B, C, D, E"):
        load(config(place, lessons=named, exam_form="matched"), tmp_path)


def test_the_faster_number_format_is_measured() -> None:
    assert faster_format("cpu", 0.01) in {str(dtype).removeprefix("torch.") for dtype in FORMATS}
