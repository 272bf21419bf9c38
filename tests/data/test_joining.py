from __future__ import annotations

from collections.abc import Callable

from esmerge.data.joining import leave_out, pair_up, read_names, resolve
from esmerge.data.molecules import canonical_smiles
from esmerge.data.tables import RowValidator, read_columns

DRUGS = "drug,SMILES\na,OCC\nb,CC\nc,C1CC\nd,CCO\ne,CCN\ne,CCF\nb,CC\n"


def joined(write: Callable, pairs: str) -> tuple[RowValidator, list[str]]:
    names = read_names(write("drugs.csv", DRUGS), "drug", "SMILES", canonical_smiles, 0.9)
    validator = RowValidator(read_columns(write("pairs.csv", "x,y\n" + pairs), ["x", "y"]))
    resolve(validator, "x", names, "molecule_1")
    resolve(validator, "y", names, "molecule_2")
    return validator, [reject.row for reject in names.rejects]


def test_names_with_a_bad_or_contradicting_value_stand_for_nothing(write: Callable) -> None:
    validator, refused = joined(write, "a,b\na,c\ne,a\nz,a\n")
    assert sorted(refused) == ["drugs.csv:4", "drugs.csv:6", "drugs.csv:7", "drugs.csv:8"]
    assert validator.frame[["molecule_1", "molecule_2"]].values.tolist() == [["CCO", "CC"]]
    assert {reject.row: reject.reason for reject in validator.rejects} == {
        "pairs.csv:3": "y 'c' has no valid row in drugs.csv",
        "pairs.csv:4": "x 'e' has no valid row in drugs.csv",
        "pairs.csv:5": "x 'z' has no valid row in drugs.csv",
    }


def test_both_orders_are_one_pair_and_no_drug_is_its_own_partner(write: Callable) -> None:
    validator, _ = joined(write, "a,b\nb,a\na,a\na,d\n")
    pair_up(validator)
    assert validator.frame[["molecule_1", "molecule_2"]].values.tolist() == [["CC", "CCO"], ["CC", "CCO"]]
    assert [reject.row for reject in validator.rejects] == ["pairs.csv:4", "pairs.csv:5"]
    assert {reject.reason for reject in validator.rejects} == {"both drugs are one molecule"}


def test_what_is_left_out_is_named_but_not_refused(write: Callable) -> None:
    validator, _ = joined(write, "a,b\nb,a\n")
    rejects = leave_out(validator, validator.frame["x"] == "b", "not asked")
    assert [(reject.row, reject.reason) for reject in rejects] == [("pairs.csv:3", "not asked")]
    assert list(validator.frame["row"]) == ["pairs.csv:2"] and not validator.rejects
