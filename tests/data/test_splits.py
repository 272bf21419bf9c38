from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.core.errors import ConfigError, InputError
from esmerge.data.splits import check_disjoint, check_kind, hashed_sides, kinds, left_out, quotas, sample, split_rows

CHAINS = ["C" * length + tail for length in range(1, 60) for tail in ("O", "N", "F", "Cl", "Br")]
RINGS = [*CHAINS, *(f"{chain}c1ccccc1" for chain in ("C", "CC", "CCC")), *(f"{chain}C1CCCCC1" for chain in ("C", "CC"))]
KINDS = ["random", "cold_drug", "cold_one_drug", "cold_target", "cold_cell", "scaffold"]
KEYS = pd.Series([f"key{number}" for number in range(5000)])


def test_shares_come_out_as_asked() -> None:
    shares = hashed_sides(KEYS, 0, 0.1, 0.2).value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.7, abs=0.03)
    assert shares["validation"] == pytest.approx(0.1, abs=0.03)
    assert shares["test"] == pytest.approx(0.2, abs=0.03)


def test_a_key_has_one_side_in_any_table() -> None:
    sides = dict(zip(KEYS, hashed_sides(KEYS, 1, 0.1, 0.2), strict=True))
    part = pd.concat([KEYS[4000:], KEYS[:10], KEYS[:10]])
    assert list(hashed_sides(part, 1, 0.1, 0.2)) == [sides[key] for key in part]


def test_another_seed_is_another_split() -> None:
    assert (hashed_sides(KEYS, 0, 0.1, 0.2) != hashed_sides(KEYS, 1, 0.1, 0.2)).mean() > 0.3


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.2), (0.5, 0.5), (-0.1, 0.2), (0.1, 1.0)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(ConfigError, match="share"):
        hashed_sides(KEYS, 0, validation, test)


def test_a_shared_key_is_found() -> None:
    frame = pd.DataFrame({"molecule": ["C", "CC", "C"], "side": ["train", "test", "test"]})
    with pytest.raises(InputError, match="1 molecule.*'C'"):
        check_disjoint(frame, "molecule", "toy")
    check_disjoint(frame[1:], "molecule", "toy")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 100), st.integers(0, 5))
def test_a_sample_keeps_proportions_within_one(labels: list[int], limit: int, seed: int) -> None:
    frame = pd.DataFrame({"answer": labels, "id": range(len(labels))})
    subset = sample(frame, limit, seed, "test")
    assert len(subset) == min(limit, len(labels))
    assert list(subset["id"]) == sorted(set(subset["id"]))
    share = min(1.0, limit / len(labels))
    counts = Counter(subset["answer"])
    assert all(abs(counts[label] - count * share) < 1 for label, count in Counter(labels).items())
    assert subset.equals(sample(frame, limit, seed, "test"))


def test_no_limit_is_everything_and_seeds_differ() -> None:
    frame = pd.DataFrame({"answer": [0, 1] * 50})
    assert sample(frame, None, 0, "test").equals(frame)
    samples = [tuple(sample(frame, 10, seed, "test").index) for seed in range(3)]
    assert len(set(samples)) == 3


def test_quotas_round_the_largest_remainder_up() -> None:
    # 68 : 22 : 10 of 10 are 6.8, 2.2 and 1.0; the one place left goes to 6.8
    assert quotas(pd.Series([0] * 68 + [1] * 22 + [2] * 10), 10) == {0: 7, 1: 2, 2: 1}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Distinct rows of one or two molecules, a protein and a cell line."""
    molecule, partner = st.sampled_from(RINGS[:20] + RINGS[-5:]), st.sampled_from("ABCDEF")
    two = draw(st.booleans())
    rows = draw(st.lists(st.tuples(molecule, molecule, partner, partner), min_size=1, max_size=60, unique=True))
    frame = pd.DataFrame(rows, columns=["molecule_1", "molecule_2", "protein", "line"])
    frame = frame if two else frame.drop(columns="molecule_2").rename(columns={"molecule_1": "molecule"})
    return frame.drop_duplicates().assign(row=lambda table: [f"t.csv:{place}" for place in table.index])


def molecules(frame: pd.DataFrame, side: str) -> set[str]:
    """Every molecule in the rows of a side."""
    return set(frame.loc[frame["side"] == side].filter(like="molecule").to_numpy().ravel())


@settings(deadline=None, max_examples=50)  # it parses molecules, which takes a while for the first of them
@given(tables(), st.integers(0, 20), st.randoms(use_true_random=False))
def test_a_split_is_disjoint_and_depends_on_the_row_alone(frame: pd.DataFrame, seed: int, order: Any) -> None:
    for kind in kinds(frame.columns):
        split = split_rows(frame, kind, seed, 0.2, 0.3)
        check_disjoint(split, "key", "toy")
        assert split[list(frame.columns)].equals(frame.loc[split.index])
        shuffled = frame.sample(frac=1.0, random_state=order.randrange(1000))
        other_split = split_rows(shuffled[: max(1, len(frame) // 2)], kind, seed, 0.2, 0.3)
        common = split.index.intersection(other_split.index)
        assert split["side"].loc[common].equals(other_split["side"].loc[common])
        rejected_rows = [reject.row for reject in left_out(frame, split, kind)]
        assert sorted([*rejected_rows, *split["row"]]) == sorted(frame["row"])
        if kind == "cold_drug":
            assert not molecules(split, "test") & (molecules(split, "train") | molecules(split, "validation"))
            training_molecules = molecules(split, "train")
            validation_rows = split[split["side"] == "validation"].filter(like="molecule").to_numpy()
            assert all(set(row) - training_molecules for row in validation_rows)


@pytest.mark.parametrize("kind", KINDS)
def test_two_seeds_are_two_splits(kind: str) -> None:
    frame = pd.DataFrame({"molecule_1": CHAINS, "molecule_2": CHAINS[::-1], "protein": CHAINS, "line": CHAINS})
    first, second = (split_rows(frame, kind, seed, 0.1, 0.2)["side"] for seed in (0, 1))
    assert not first.equals(second)


@pytest.mark.parametrize("kind", ["random", "cold_drug", "scaffold"])
def test_shares_of_many_molecules_are_near_those_asked_for(kind: str) -> None:
    split = split_rows(pd.DataFrame({"molecule": CHAINS}), kind, 0, 0.25, 0.25)
    assert len(split) == len(CHAINS)
    assert split["side"].value_counts(normalize=True)["test"] == pytest.approx(0.25, abs=0.1)


def test_the_hash_decides_and_is_the_same_for_every_table() -> None:
    pairs = pd.DataFrame({"molecule": CHAINS, "protein": "MKV"})
    molecule_sides = split_rows(pairs[["molecule"]], "cold_drug", 5, 0.1, 0.2)["side"]
    assert list(split_rows(pairs, "cold_drug", 5, 0.1, 0.2)["side"]) == list(molecule_sides)
    assert list(molecule_sides) == list(hashed_sides(pairs["molecule"], 5, 0.1, 0.2))
    combined = pairs["molecule"] + " " + pairs["protein"]
    assert list(split_rows(pairs, "random", 5, 0.1, 0.2)["key"]) == list(combined)


def pairs_of_all() -> tuple[pd.DataFrame, dict[str, str]]:
    """Each of 60 molecules with each other one, and the molecules' own sides."""
    drugs = CHAINS[:60]
    frame = pd.DataFrame([(a, b) for a in drugs for b in drugs if a < b], columns=["molecule_1", "molecule_2"])
    sides = hashed_sides(pd.Series(drugs), 0, 0.2, 0.3)
    return frame.assign(row=[str(place) for place in frame.index]), dict(zip(drugs, sides, strict=True))


def test_a_cold_pair_has_two_new_drugs() -> None:
    frame, sides = pairs_of_all()
    split = split_rows(frame, "cold_drug", 0, 0.2, 0.3)
    pair_sides = [{sides[a], sides[b]} for a, b in zip(frame["molecule_1"], frame["molecule_2"], strict=True)]
    names = {
        ("test",): "test",
        ("train",): "train",
        ("validation",): "validation",
        ("train", "validation"): "validation",
    }
    expected = [names.get(tuple(sorted(pair))) for pair in pair_sides]
    assert list(split.index) == [place for place, side in enumerate(expected) if side] and 0 < len(split) < len(frame)
    assert list(split["side"]) == [side for side in expected if side]
    rejects = left_out(frame, split, "cold_drug")
    assert len(rejects) + len(split) == len(frame)
    assert rejects[0].reason == "its molecules stand on different sides of the cold_drug split"


def test_a_validation_pair_of_a_cold_split_has_a_new_drug_and_no_test_drug() -> None:
    frame, sides = pairs_of_all()
    split = split_rows(frame, "cold_drug", 0, 0.2, 0.3)
    rows = split[split["side"] == "validation"]
    new_molecules = [
        [m for m in row if sides[m] == "validation"] for row in rows[["molecule_1", "molecule_2"]].to_numpy()
    ]
    assert [list(key) for key in rows["key"]] == new_molecules and {len(new) for new in new_molecules} == {1, 2}
    assert not molecules(split, "test") & molecules(split, "validation")


def test_a_half_cold_pair_has_one_new_drug() -> None:
    frame, sides = pairs_of_all()
    split = split_rows(frame, "cold_one_drug", 0, 0.2, 0.3)
    for row in split.itertuples():
        new = [molecule for molecule in (row.molecule_1, row.molecule_2) if sides[molecule] != "train"]
        assert [sides[molecule] for molecule in new] == ([] if row.side == "train" else [row.side])
        assert row.key == (tuple(new) or (row.molecule_1, row.molecule_2))
    mask = [[sides[a], sides[b]].count("train") >= 1 for a, b in frame[["molecule_1", "molecule_2"]].to_numpy()]
    assert list(split.index) == list(frame.index[mask])


def test_a_random_pair_has_one_side_in_either_order() -> None:
    frame = pd.DataFrame({"molecule_1": CHAINS, "molecule_2": CHAINS[::-1], "line": "A"})
    turned = frame.rename(columns={"molecule_1": "molecule_2", "molecule_2": "molecule_1"})
    table, other = (split_rows(table, "random", 0, 0.1, 0.2) for table in (frame, turned))
    assert table[["key", "side"]].equals(other[["key", "side"]])
    assert table["key"][0] == "CO " + CHAINS[-1] + " A" or table["key"][0] == CHAINS[-1] + " CO A"


def test_molecules_of_one_scaffold_stay_together() -> None:
    frame = pd.DataFrame({"molecule": ["Cc1ccccc1", "CCc1ccccc1", "OC1CCCCC1", "CCO", "CCN"]})
    split = split_rows(frame, "scaffold", 0, 0.2, 0.3)
    assert list(split["key"]) == ["c1ccccc1", "c1ccccc1", "C1CCCCC1", "CCO", "CCN"]
    assert split["side"][0] == split["side"][1]


def test_a_tuple_of_keys_is_checked_one_by_one() -> None:
    frame = pd.DataFrame({"key": [("C", "CC"), ("CC", "CCC")], "side": ["train", "test"]})
    with pytest.raises(InputError, match="1 key.*'CC'"):
        check_disjoint(frame, "key", "toy")


def test_a_kind_that_the_rows_cannot_have_is_refused() -> None:
    assert kinds(["molecule", "protein"]) == ["random", "cold_drug", "cold_target", "scaffold"]
    assert kinds(["molecule_1", "molecule_2", "line"]) == [
        "random",
        "cold_drug",
        "cold_one_drug",
        "cold_cell",
        "scaffold",
    ]
    frame = pd.DataFrame({"molecule": ["C"], "line": ["A"]})
    with pytest.raises(ConfigError, match="split='cold_target' must be one of random, cold_drug, cold_cell, scaffold"):
        split_rows(frame, "cold_target", 0, 0.1, 0.2)
    with pytest.raises(ConfigError, match="split='published' must be one of random"):
        check_kind("published", ["random"])
