"""When two entries are one entity, rule by rule; each class below was written by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from rdkit import Chem

from esmerge.core.errors import ConfigError, InputError
from esmerge.data.identity import RULES, check_rule, identity, scaffold_identity, text_identity
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import canonical_sequence
from esmerge.data.splits import check_disjoint, side_rule, split_rows

SAME = {  # the first rule that merges them
    "exact": [
        ("CCO", "OCC", "[CH3:1][CH2:2][OH:3]", "[H]OCC", "[H:1][O:2]CC", "C(C)O"),
        ("c1ccccc1", "C1=CC=CC=C1", "[cH:1]1ccccc1"),
        ("C[C@H](N)O", "[CH3:5][C@H](N)O"),
        ("C[N+](=O)[O-]", "CN(=O)=O"),
    ],
    "parent": [
        ("CCO", "[13CH3]CO", "[2H]OCC", "CC[O-].[Na+]", "CCO.O"),
        ("CN", "C[NH3+].[Cl-]", "CN.Cl"),
        ("CC(=O)O", "CC(=O)[O-].[K+]", "CC(=O)[O-]"),
        ("NCC(=O)O", "[NH3+]CC(=O)[O-]"),
        ("CS(C)=O", "C[S+](C)[O-]"),
    ],
    "connectivity": [
        ("C[C@H](N)O", "C[C@@H](N)O", "CC(N)O"),
        ("C/C=C/C", "C/C=C\\C", "CC=CC"),
        ("O=c1cccc[nH]1", "Oc1ccccn1"),
        ("CC(=O)CC(C)=O", "CC(=O)C=C(C)O"),
        ("CC(C)=O", "CC(O)=C"),
        ("Cc1c[nH]cn1", "Cc1cnc[nH]1"),
        ("CN=C(N)N", "CNC(=N)N"),
        ("CC=NO", "CCN=O"),
    ],
}
DIFFERENT = [("Cc1ccccc1O", "Cc1cccc(O)c1"), ("CCC=O", "CC(C)=O"), ("C=CCO", "CCC=O"), ("CC=CC", "C=CCC")]
CASES = [(rule, forms) for rule, classes in SAME.items() for forms in classes]


@pytest.mark.parametrize(("first", "forms"), CASES)
def test_a_rule_merges_a_class_and_so_do_the_stricter_ones(first: str, forms: tuple[str, ...]) -> None:
    for rule in RULES:
        keys = {identity("molecule", rule)(canonical_smiles(form)) for form in forms}
        merged = RULES.index(rule) >= RULES.index(first)
        assert (len(keys) == 1) == merged, (rule, keys)
        if merged:
            assert len({scaffold_identity(rule)(canonical_smiles(form)) for form in forms}) == 1


@pytest.mark.parametrize("pair", DIFFERENT)
def test_isomers_stay_apart_under_every_rule(pair: tuple[str, str]) -> None:
    for rule in RULES:
        assert len({identity("molecule", rule)(canonical_smiles(form)) for form in pair}) == 2


def test_a_tautomer_in_a_ring_has_one_scaffold() -> None:
    forms = ("O=c1[nH]cccc1-c1ccccc1", "Oc1ncccc1-c1ccccc1")
    assert len({scaffold_identity("exact")(form) for form in forms}) == 2
    assert len({scaffold_identity("connectivity")(form) for form in forms}) == 1


def test_the_scaffold_is_that_of_the_drug_and_not_of_its_salt() -> None:
    tosylate = canonical_smiles("CN.Cc1ccc(S(=O)(=O)O)cc1.CCC1CCCCC1CCCCCCCC")
    assert scaffold_identity("parent")(tosylate) == "C1CCCCC1"


def test_sequences_are_their_residues() -> None:
    forms = ("MKTAYIAK", "mktayiak", " MKT AYI\nAK ", "MKT--AYI.AK", "MKTAYIAK*", "mktayiak*\n")
    assert {canonical_sequence(form) for form in forms} == {"MKTAYIAK"}
    with pytest.raises(InputError, match="'\\*' at position 4"):
        canonical_sequence("MKT*AYIAK")
    for word in ("NA", "nan", "None", "NULL", "n/a"):
        with pytest.raises(InputError, match="stands for a missing value"):
            canonical_sequence(word)


def test_cell_lines_are_their_letters_and_digits_under_the_stricter_rules() -> None:
    forms = ("MCF-7", "MCF7", "mcf 7")
    assert [len({identity("line", rule)(form) for form in forms}) for rule in RULES] == [3, 1, 1]


def test_an_unknown_rule_is_refused_and_text_may_be_invalid() -> None:
    with pytest.raises(ConfigError, match="identity='inchi' must be one of exact, parent, connectivity"):
        check_rule("inchi")
    check_rule(None)
    assert text_identity("molecule")("aspirin") == "aspirin"


def test_no_form_of_a_test_molecule_stands_in_training_under_a_cold_split() -> None:
    base = [f"{'C' * length}{tail}" for length in range(2, 30) for tail in ("N", "O", "C(=O)O")]
    forms = [canonical_smiles(form) for smiles in base for form in (smiles, f"{smiles}.Cl", f"[13CH3]{smiles[1:]}")]
    frame = pd.DataFrame({"molecule": forms, "protein": "MKV"})
    key = identity("molecule", "connectivity")
    for kind in ("cold_drug", "scaffold"):
        split = split_rows(frame, kind, 0, 0.1, 0.3, side_rule(kind, None))
        sides = split.groupby(split["molecule"].map(key))["side"].nunique()
        check_disjoint(split, "key", "toy")
        assert set(sides) == {1} and set(split["side"]) == {"train", "validation", "test"}
    exact = split_rows(frame, "cold_drug", 0, 0.1, 0.3, side_rule("cold_drug", "exact"))
    assert exact.groupby(exact["molecule"].map(key))["side"].nunique().max() > 1


def test_most_molecules_have_the_same_side_under_every_rule() -> None:
    for smiles in ("CCO", "c1ccccc1C", "CCN(CC)CCCl"):
        form = Chem.CanonSmiles(smiles)
        assert {identity("molecule", rule)(form) for rule in RULES} == {form}
