"""What must hold of the embedded world whatever its seed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from esmerge.core.errors import ConfigError
from esmerge.world import cells, entities, molecules, proteins
from esmerge.world.entities import MODALITIES, Pools, world_and_pools
from esmerge.world.language import NAMES, WORDINGS, describe, vocabulary
from esmerge.world.world import KINDS, PARTS, SUBTYPES, World, WorldSettings, make_world

SIZES = {"train_entities": 60, "validation_entities": 24, "test_entities": 36, "questions": 24, "train_questions": 24}
SEEDS = st.integers(0, 10_000)
FEW = settings(max_examples=6, deadline=None)
MANY = settings(max_examples=40, deadline=None)


@cache
def world_of(seed: int) -> World:
    return make_world(seed, WorldSettings(**SIZES))


@cache
def pools_of(seed: int, split: str = "random") -> Pools:
    return world_and_pools(seed, WorldSettings(split=split, **SIZES))[1]


@MANY
@given(SEEDS)
def test_rules_are_balanced_and_tell_all_kinds_apart(seed: int) -> None:
    world = world_of(seed)
    for table in (world.bind, world.kill):
        assert (table.sum(0) == KINDS / 2).all() and (table.sum(1) == KINDS / 2).all()
        assert len(set(map(tuple, table))) == len(set(map(tuple, table.T))) == KINDS
    assert (world.clash.sum(0) == KINDS / 2).all()


@MANY
@given(SEEDS)
def test_clash_is_symmetric_spares_its_own_kind_and_needs_two_bits_of_each_class(seed: int) -> None:
    clash = world_of(seed).clash
    assert (clash == clash.T).all() and not clash.diagonal().any()
    for bits in range(2**KINDS):  # no yes/no property of the classes explains the table
        side = np.array([bits >> kind & 1 for kind in range(KINDS)], dtype=bool)
        for values in range(8):
            rule = np.array([values & 1, values >> 1 & 1, values >> 1 & 1, values >> 2 & 1], dtype=bool).reshape(2, 2)
            assert (rule[side.astype(int)][:, side.astype(int)] != clash).any()


@MANY
@given(SEEDS)
def test_combine_asks_both_to_kill(seed: int) -> None:
    world = world_of(seed)
    for first, second, cell in np.ndindex(KINDS, KINDS, KINDS):
        assert world.combine(first, second, cell) == (world.kill[first, cell] and world.kill[second, cell])


@MANY
@given(SEEDS)
def test_no_part_gives_a_kind_away(seed: int) -> None:
    world = world_of(seed)
    for table in (world.molecule_parts, world.protein_parts):
        assert table.shape == (KINDS, SUBTYPES, 2)
        pairs = [tuple(pair) for pair in table.reshape(-1, 2)]
        assert len(set(pairs)) == KINDS * SUBTYPES, "a pair of parts belongs to one subtype of one kind"
        assert (table[:, 0] != table[:, 1]).all(), "the subtypes of a kind share neither part"
        for side in range(2):
            owners = [{kind for kind in range(KINDS) if part in table[kind, :, side]} for part in range(PARTS)]
            assert {len(kinds) for kinds in owners} == {KINDS * SUBTYPES // PARTS}, "a part belongs to several kinds"


@FEW
@given(SEEDS)
def test_molecules_are_valid_unique_and_canonical(seed: int) -> None:
    pools = pools_of(seed)
    values = [v for split in (pools.train, pools.validation, pools.test) for v in split["molecule"].values]
    assert len(set(values)) == len(values) == 60 + 24 + 36
    for value in values:
        molecule = Chem.MolFromSmiles(value)
        assert molecule is not None and Chem.MolToSmiles(molecule) == value and "." not in value


def test_every_molecule_that_can_be_built_is_valid_and_holds_its_key() -> None:
    for group in range(PARTS):
        for scaffold in molecules.SCAFFOLDS[group]:
            for keys in molecules.KEYS:
                for key in keys:
                    molecule = Chem.MolFromSmiles(molecules.build(scaffold, key, "C", "F"))
                    assert molecule is not None
                    assert molecule.HasSubstructMatch(Chem.MolFromSmiles(key)), (scaffold, key)


@FEW
@given(SEEDS, st.sampled_from(["random", "scaffold"]))
def test_no_entity_is_in_two_splits_and_all_kinds_are_as_frequent(seed: int, split: str) -> None:
    pools = pools_of(seed, split)
    for modality in MODALITIES:
        parts = [pool[modality] for pool in (pools.train, pools.validation, pools.test)]
        sets = [set(part.values) for part in parts]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 60 + 24 + 36
        for part in parts:
            cells_of = np.bincount(part.kinds * SUBTYPES + part.subtypes, minlength=KINDS * SUBTYPES)
            assert (cells_of == len(part.values) / (KINDS * SUBTYPES)).all()


@FEW
@given(SEEDS)
def test_the_scaffold_split_tests_on_scaffolds_that_training_never_shows(seed: int) -> None:
    pools = pools_of(seed, "scaffold")
    scaffolds = {name: used(pools, name) for name in ("train", "validation", "test")}
    assert scaffolds["train"] and scaffolds["test"]
    assert not scaffolds["test"] & (scaffolds["train"] | scaffolds["validation"])
    random = pools_of(seed, "random")
    assert used(random, "test") & used(random, "train"), "the random split shares scaffolds"


def used(pools: Pools, split: str) -> set[str]:
    """Scaffolds that some molecule of a split must have been built on, within the group that its parts name."""
    pool, scaffolds = getattr(pools, split)["molecule"], set()
    for value, (group, key) in zip(pool.values, pool.parts, strict=True):
        makers = {t for t in molecules.SCAFFOLDS[group] if value in products(t, int(key))}
        assert makers, f"{value} is no product of its parts"
        scaffolds |= makers if len(makers) == 1 else set()
    return scaffolds


@cache
def products(template: str, key_group: int) -> frozenset[str]:
    return frozenset(
        molecules.build(template, key, linker, decoration)
        for key in molecules.KEYS[key_group]
        for linker in molecules.LINKERS
        for decoration in molecules.DECORATIONS
    )


@FEW
@given(SEEDS)
def test_proteins_have_their_length_and_letters_and_hold_their_motifs(seed: int) -> None:
    pool, table = pools_of(seed).train["protein"], proteins.motifs(world_of(seed))
    half = proteins.LENGTH // 2
    likeness = []
    for value, parts in zip(pool.values, pool.parts, strict=True):
        assert len(value) == proteins.LENGTH and set(value) <= set(proteins.RESIDUES)
        for side in range(2):
            motif = "".join(proteins.RESIDUES[r] for r in table[side, parts[side]])
            region = value[side * half : (side + 1) * half]
            starts = range(len(region) - len(motif) + 1)
            likeness.append(max(sum(map(str.__eq__, motif, region[s : s + len(motif)])) for s in starts) / len(motif))
    assert np.mean(likeness) > 1 - 1.5 * proteins.MUTATION_RATE


@FEW
@given(SEEDS)
def test_cells_show_genes_of_the_list_once_each_in_words_the_backbone_knows(seed: int) -> None:
    words = set(vocabulary())
    for value in pools_of(seed).train["cell"].values:
        genes = value.split()
        assert len(genes) == len(set(genes)) == cells.SHOWN and set(genes) <= set(cells.GENES) <= words


@MANY
@given(SEEDS)
def test_variants_of_lineages_are_told_apart_by_modules_that_each_belong_to_several(seed: int) -> None:
    table = cells.variants(world_of(seed))
    rows = [frozenset(row) for row in table.reshape(-1, cells.RAISED)]
    assert len(set(rows)) == KINDS * SUBTYPES and {len(row) for row in rows} == {cells.RAISED}
    counts = np.bincount(table.ravel(), minlength=len(cells.MODULE_GENES))
    assert (counts == KINDS * SUBTYPES * cells.RAISED / len(cells.MODULE_GENES)).all()


def test_genes_are_listed_once() -> None:
    assert len(set(cells.GENES)) == len(cells.GENES)


def test_the_same_seed_makes_the_same_world_and_another_seed_another() -> None:
    world_and_pools.cache_clear()
    first, first_pools = world_and_pools(3, WorldSettings(**SIZES))
    world_and_pools.cache_clear()
    second, second_pools = world_and_pools(3, WorldSettings(**SIZES))
    other, other_pools = world_and_pools(4, WorldSettings(**SIZES))
    for name in ("bind", "kill", "clash", "molecule_parts", "protein_parts"):
        assert (getattr(first, name) == getattr(second, name)).all()
    assert any((getattr(first, name) != getattr(other, name)).any() for name in ("bind", "kill", "molecule_parts"))
    for modality in MODALITIES:
        assert (
            first_pools.test[modality].values == second_pools.test[modality].values != other_pools.test[modality].values
        )


def test_the_pool_chooses_the_kind_and_if_told_the_first_subtype() -> None:
    pool, rng = pools_of(0).train["molecule"], np.random.default_rng(0)
    indices = [pool.choose(2, rng) for _ in range(60)]
    assert {int(pool.kinds[i]) for i in indices} == {2} and {int(pool.subtypes[i]) for i in indices} == {0, 1}
    assert {int(pool.subtypes[pool.choose(2, rng, first_only=1.0)]) for _ in range(60)} == {0}


def test_more_entities_than_the_world_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "REPEATS", 200)
    monkeypatch.setattr(molecules, "DECORATIONS", ("F",))
    sizes = WorldSettings(split="scaffold", **{**SIZES, "test_entities": 900})
    with pytest.raises(ConfigError, match=r"world.test_entities=900: after \d+ .* no .*molecule.* ask for fewer"):
        world_and_pools(0, sizes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "time"}, "split is 'time': expected random or scaffold"),
        ({"questions": 3}, "questions is 3: expected at least"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorldSettings(**{**SIZES, **changes})


def test_names_and_wordings_belong_to_one_thing_each() -> None:
    names = [name for kinds in NAMES.values() for synonyms in kinds for name in synonyms]
    assert len(set(names)) == len(names)
    wordings = [wording for variants in WORDINGS.values() for wording in variants]
    assert len(set(wordings)) == len(wordings)


@MANY
@given(SEEDS, st.sampled_from(MODALITIES), st.integers(0, KINDS - 1), st.integers(0, 2))
def test_descriptions_name_their_kind_and_no_other(seed: int, modality: str, kind: int, level: int) -> None:
    words = describe(modality, kind, np.random.default_rng(seed), level).split()
    mentions = {k for k in range(KINDS) for word in words if word in NAMES[modality][k]}
    assert mentions == {kind} and set(words) <= set(vocabulary())
