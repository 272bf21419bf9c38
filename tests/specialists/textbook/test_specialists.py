"""The tiny embedded specialists: what is cached, what its settings change, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.conftest import make_specialists

from esmerge.adapters.lora import LoraState
from esmerge.core.errors import ConfigError
from esmerge.specialists.specialists import Specialists


def test_the_specialists_are_whole(tiny_specialists: Specialists) -> None:
    assert (
        list(tiny_specialists.adapters)
        == list(tiny_specialists.expert_modality)
        == list(tiny_specialists.modalities)
        == list(tiny_specialists.pool)
    )
    assert set(tiny_specialists.encoders) <= set(tiny_specialists.modalities)
    assert not any(p.requires_grad for p in tiny_specialists.backbone.model.parameters())
    assert not tiny_specialists.backbone.model.training
    for state in tiny_specialists.adapters.values():
        assert any(f.b.any() for f in state.modules.values()), "training has moved it"
        assert state.base_model == tiny_specialists.backbone.name


def changed(folder: Path, before: dict[Path, int]) -> set[str]:
    """Kinds of stages that were made since."""
    return {path.parent.name for path in stages(folder) if path not in before}


def stages(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("textbook-*/*") if path.is_dir()}


def test_a_second_loading_trains_nothing_and_gives_the_same_specialists(
    tiny_specialists: Specialists, shared_cache: Path
) -> None:
    before = stages(shared_cache)
    reloaded = make_specialists(shared_cache)
    assert stages(shared_cache) == before and len(before) > 0
    assert reloaded.fingerprint == tiny_specialists.fingerprint
    assert reloaded.metadata == tiny_specialists.metadata


def test_training_is_the_same_in_another_cache(tiny_specialists: Specialists, tmp_path: Path) -> None:
    assert make_specialists(tmp_path).fingerprint == tiny_specialists.fingerprint


@pytest.mark.parametrize(
    ("override", "kinds"),
    [
        ("specialists.lora.replay=0.5", {"textbook-specialist"}),
        ("specialists.alignment.first_only=0.5", {"textbook-alignment", "textbook-specialist"}),
        ("specialists.finetuning.steps=3", set()),
        ("specialists.encoders.protein=kmers", {"textbook-encoder", "textbook-alignment", "textbook-specialist"}),
        ("specialists.encoders.protein.motif=7", {"textbook-encoder", "textbook-alignment", "textbook-specialist"}),
        ("specialists.encoders.protein=motif_convolution", set()),
        ("specialists.reading.hidden=16", {"textbook-backbone", "textbook-alignment", "textbook-specialist"}),
    ],
)
def test_a_change_makes_again_what_depends_on_it(
    tiny_specialists: Specialists, shared_cache: Path, override: str, kinds: set[str]
) -> None:
    before = stages(shared_cache)
    specialists = make_specialists(shared_cache, override)
    assert changed(shared_cache, before) == kinds
    assert (specialists.fingerprint == tiny_specialists.fingerprint) == (not kinds)


def test_a_subset_of_experts_reuses_what_they_share(tiny_specialists: Specialists, shared_cache: Path) -> None:
    before = stages(shared_cache)
    pair = make_specialists(shared_cache, "specialists.experts=[protein,cell]", "specialists.shared_init=true")
    assert changed(shared_cache, before) == set()
    assert list(pair.adapters) == ["protein", "cell"] and pair.modalities == ("protein", "cell")
    for name, state in pair.adapters.items():
        assert equal(state, tiny_specialists.adapters[name])
    assert pair.fingerprint != tiny_specialists.fingerprint


def equal(first: LoraState, second: LoraState, letter: str = "") -> bool:
    first_tensors, second_tensors = first.tensors(), second.tensors()
    keys = [key for key in first_tensors if f"lora_{letter}" in key]
    return bool(keys) and all(torch.equal(first_tensors[key], second_tensors[key]) for key in keys)


STILL = ("specialists.lora.rate=1e-30", "specialists.lora.weight_decay=0")  # training that moves no A


@pytest.mark.parametrize("shared", [True, False])
def test_adapters_start_from_one_a_or_from_one_each(shared_cache: Path, shared: bool) -> None:
    specialists = make_specialists(shared_cache, f"specialists.shared_init={shared}", *STILL)
    first, *others = specialists.adapters.values()
    assert [equal(first, other, "A") for other in others] == [shared] * len(others)


def test_an_experts_own_a_does_not_depend_on_who_else_is_there(shared_cache: Path) -> None:
    options = ("specialists.shared_init=false", *STILL)
    trio = make_specialists(shared_cache, *options)
    pair = make_specialists(shared_cache, "specialists.experts=[cell,protein]", *options)
    assert all(equal(state, trio.adapters[name], "A") for name, state in pair.adapters.items())


def test_strong_interference_trains_other_adapters(tiny_specialists: Specialists, shared_cache: Path) -> None:
    before = stages(shared_cache)
    strong = make_specialists(shared_cache, "specialists.interference=strong")
    assert changed(shared_cache, before) == {"textbook-specialist"}
    assert not any(equal(strong.adapters[name], state) for name, state in tiny_specialists.adapters.items())


def test_another_seed_is_another_world(tiny_specialists: Specialists, shared_cache: Path) -> None:
    assert make_specialists(shared_cache, seed=1).pool != tiny_specialists.pool


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("interference=fierce", "interference='fierce': expected mild or strong"),
        ("experts=[molecule]", "two or more of molecule, protein, cell, each once"),
        ("experts=[molecule,gene]", "two or more of molecule, protein, cell"),
        ("experts=[molecule,protein,cell,cell]", "each once"),
        ("language=english", "textbook only"),
        ("+encoders.cell=kmers", r"specialists\.encoders\.cell: expected an encoder of molecule or protein"),
        (
            "encoders.protein=graph",
            r"specialists\.encoders\.protein='graph': expected an encoder, one of count_fingerprint, fingerprint",
        ),
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
        make_specialists(tmp_path, f"{plus}specialists.{override.removeprefix('+')}")
    assert not any(tmp_path.iterdir())
