"""The tiny embedded team: what is cached, what its settings change, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.conftest import make_team

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import ConfigError
from esmerge.specialists.team import Team


def test_the_team_is_whole(tiny_team: Team) -> None:
    assert list(tiny_team.adapters) == list(tiny_team.own) == list(tiny_team.modalities) == list(tiny_team.pool)
    assert set(tiny_team.encoders) <= set(tiny_team.modalities)
    assert not any(p.requires_grad for p in tiny_team.backbone.model.parameters())
    assert not tiny_team.backbone.model.training
    for state in tiny_team.adapters.values():
        assert any(f.b.any() for f in state.modules.values()), "training has moved it"
        assert state.base_model == tiny_team.backbone.name


def changed(folder: Path, before: dict[Path, int]) -> set[str]:
    """Kinds of stages that were made since."""
    return {path.parent.name for path in stages(folder) if path not in before}


def stages(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("textbook-*/*") if path.is_dir()}


def test_a_second_loading_trains_nothing_and_gives_the_same_team(tiny_team: Team, shared_cache: Path) -> None:
    before = stages(shared_cache)
    again = make_team(shared_cache)
    assert stages(shared_cache) == before and len(before) > 0
    assert again.fingerprint == tiny_team.fingerprint
    assert again.facts == tiny_team.facts


def test_training_is_the_same_in_another_cache(tiny_team: Team, tmp_path: Path) -> None:
    assert make_team(tmp_path).fingerprint == tiny_team.fingerprint


@pytest.mark.parametrize(
    ("override", "made"),
    [
        ("specialists.lora.replay=0.5", {"textbook-specialist"}),
        ("specialists.alignment.first_only=0.5", {"textbook-alignment", "textbook-specialist"}),
        ("specialists.finetuning.steps=3", set()),
    ],
)
def test_a_change_makes_again_what_depends_on_it(
    tiny_team: Team, shared_cache: Path, override: str, made: set[str]
) -> None:
    before = stages(shared_cache)
    team = make_team(shared_cache, override)
    assert changed(shared_cache, before) == made
    assert (team.fingerprint == tiny_team.fingerprint) == (not made)


def test_a_subset_of_experts_reuses_what_they_share(tiny_team: Team, shared_cache: Path) -> None:
    before = stages(shared_cache)
    pair = make_team(shared_cache, "specialists.experts=[protein,cell]", "specialists.shared_init=true")
    assert changed(shared_cache, before) == set()
    assert list(pair.adapters) == ["protein", "cell"] and pair.modalities == ("protein", "cell")
    for name, state in pair.adapters.items():
        assert equal(state, tiny_team.adapters[name])
    assert pair.fingerprint != tiny_team.fingerprint


def equal(one: LoraState, two: LoraState, letter: str = "") -> bool:
    mine, yours = one.tensors(), two.tensors()
    keys = [key for key in mine if f"lora_{letter}" in key]
    return bool(keys) and all(torch.equal(mine[key], yours[key]) for key in keys)


STILL = ("specialists.lora.rate=1e-30", "specialists.lora.weight_decay=0")  # training that moves no A


@pytest.mark.parametrize("shared", [True, False])
def test_adapters_start_from_one_a_or_from_one_each(shared_cache: Path, shared: bool) -> None:
    team = make_team(shared_cache, f"specialists.shared_init={shared}", *STILL)
    first, *others = team.adapters.values()
    assert [equal(first, other, "A") for other in others] == [shared] * len(others)


def test_an_experts_own_a_does_not_depend_on_who_else_is_there(shared_cache: Path) -> None:
    options = ("specialists.shared_init=false", *STILL)
    whole = make_team(shared_cache, *options)
    pair = make_team(shared_cache, "specialists.experts=[cell,protein]", *options)
    assert all(equal(state, whole.adapters[name], "A") for name, state in pair.adapters.items())


def test_strong_interference_trains_other_adapters(tiny_team: Team, shared_cache: Path) -> None:
    before = stages(shared_cache)
    strong = make_team(shared_cache, "specialists.interference=strong")
    assert changed(shared_cache, before) == {"textbook-specialist"}
    assert not any(equal(strong.adapters[name], state) for name, state in tiny_team.adapters.items())


def test_another_seed_is_another_world(tiny_team: Team, shared_cache: Path) -> None:
    assert make_team(shared_cache, seed=1).pool != tiny_team.pool


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("interference=fierce", "interference='fierce': expected mild or strong"),
        ("experts=[molecule]", "two or more of molecule, protein, cell, each once"),
        ("experts=[molecule,gene]", "two or more of molecule, protein, cell"),
        ("experts=[molecule,protein,cell,cell]", "each once"),
        ("language=english", "textbook only"),
        ("lora.rank=0", r"lora\.rank=0: expected a number from 1"),
        ("lora.replay=1.5", r"lora\.replay=1\.5: expected a share from 0 to 1"),
        ("reading.rate=-1", r"reading\.rate=-1(\.0)?: expected a number above 0"),
        ("world.split=time", "expected random or scaffold"),
        ("world.test_entities=1", "expected at least"),
        ("+lora.dropout=0.1", "dropout is not a setting.*rank"),
        ("lora.steps=many", "specialists.lora.steps.*many"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, override: str, message: str) -> None:
    plus = "+" if override.startswith("+") else ""
    with pytest.raises(ConfigError, match=message):
        make_team(tmp_path, f"{plus}specialists.{override.removeprefix('+')}")
    assert not any(tmp_path.iterdir())
