from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Value

from esmerge.core.errors import ConfigError, InputError
from esmerge.data.molecules import canonical_smiles
from esmerge.data.tables import UNREAD, RowValidator, checksum, one_of, read_columns, table_names, table_path

Writer = Callable[[str, str], Path]


def reasons(validator: RowValidator) -> dict[str, str]:
    return {reject.row: reject.reason for reject in validator.rejects}


def test_columns_are_typed_and_rows_know_their_line(write: Writer) -> None:
    table = read_columns(write("t.csv", "a,unused,b\n x ,1,2.5\nNA,2,oops\n\n,3,\n"), ["a"], ["b"])
    columns = {"a": Value("string"), "b": Value("float64"), "row": Value("string")}
    assert dict(table.features) == {**columns, f"{UNREAD}b": Value("string")}
    assert table[f"{UNREAD}b"][:] == [None, "oops", None, None]
    assert dict(read_columns(write("u.csv", "a,b\nx,2.5\n"), ["a"], ["b"]).features) == columns
    assert table["row"][:] == ["t.csv:2", "t.csv:3", "t.csv:4", "t.csv:5"]
    assert table["a"][:] == ["x", "NA", None, None]
    assert table["b"][0] == 2.5 and table["b"][1:] == [None, None, None]


def test_tabs_separate_a_tsv(write: Writer) -> None:
    assert read_columns(write("t.tsv", "a\tb\nx,y\tz\n"), ["a", "b"])[0] == {"a": "x,y", "b": "z", "row": "t.tsv:2"}


def test_a_missing_column_names_file_column_and_what_there_is(write: Writer) -> None:
    path = write("t.csv", "SMILES,Y\nC,1\n")
    with pytest.raises(InputError, match=f"{path} has no column label; it has SMILES, Y"):
        read_columns(path, ["SMILES", "label"])


@pytest.mark.parametrize("text", ["", "a,b\n", "a,b\n1,2\n1,2,3\n", "a,b\n1,2,3\n", 'a,b\n"1,2\n'])
def test_a_file_that_is_no_table_is_refused_by_name(write: Writer, text: str) -> None:
    path = write("t.csv", text)
    with pytest.raises(InputError, match=str(path)):
        read_columns(path, ["a", "b"])


def test_a_missing_root_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="benchmark.root is not set"):
        table_path(None, "x/t.csv", "toy")
    with pytest.raises(InputError, match=str(tmp_path / "x" / "t.csv")):
        table_path(str(tmp_path), "x/t.csv", "toy")


def test_checksum_is_that_of_the_concatenated_bytes(write: Writer) -> None:
    paths = [write("a", "one\n"), write("b", "two\n")]
    expected = hashlib.sha256(b"one\ntwo\n").hexdigest()
    assert checksum(paths, "toy", expected) == expected
    with pytest.raises(InputError, match=f"{expected}, expected 00"):
        checksum(paths, "toy", "00")


def test_every_bad_row_is_set_aside_with_its_reason(write: Writer) -> None:
    text = "SMILES,label\nCCO,1\nOCC,0\nC1CC,1\n,1\nCN,\nCC,2\nCCC,1.0\nCCC,1\nCCCC,0\n"
    validator = RowValidator(read_columns(write("t.csv", text), ["SMILES", "label"]))
    validator.require(["SMILES", "label"])
    validator.convert("label", one_of("label", ["0", "1"]))
    validator.convert("SMILES", canonical_smiles)
    validator.distinct(["SMILES"], "label")
    reject_reasons = reasons(validator)
    assert "different labels between t.csv:2 and t.csv:3" in reject_reasons.pop("t.csv:2")
    assert "different labels between t.csv:2 and t.csv:3" in reject_reasons.pop("t.csv:3")
    assert "C1CC" in reject_reasons.pop("t.csv:4")
    assert "SMILES is missing" in reject_reasons.pop("t.csv:5")
    assert "label is missing" in reject_reasons.pop("t.csv:6")
    assert "label '2' is not one of 0, 1" in reject_reasons.pop("t.csv:7")
    assert "same SMILES and label as in t.csv:8" in reject_reasons.pop("t.csv:9")
    assert not reject_reasons
    assert list(validator.frame[["SMILES", "label", "row"]].itertuples(index=False, name=None)) == [
        ("CCC", 1, "t.csv:8"),
        ("CCCC", 0, "t.csv:10"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2,5", "b '2,5' is not a finite number: is its comma a decimal one? Write a point"),
        ("-,5e3", "b '-,5e3' is not a finite number: is its comma a decimal one? Write a point"),
        ("high", "b 'high' is not a finite number"),
        ("1,2,3", "b '1,2,3' is not a finite number"),
        ("inf", "b 'inf' is not a finite number"),
        ("", "b is missing or cannot be read"),
    ],
)
def test_what_is_no_number_is_shown_with_the_likely_cause(write: Writer, text: str, reason: str) -> None:
    validator = RowValidator(read_columns(write("t.tsv", f"a\tb\nx\t{text}\ny\t1\n"), ["a"], ["b"]))
    validator.require(["a", "b"])
    assert reasons(validator) == {"t.tsv:2": reason}
    assert validator.frame.to_dict("records") == [{"a": "y", "b": 1.0, "row": "t.tsv:3"}]


def test_tables_are_named_apart_only_where_their_files_share_a_name(tmp_path: Path) -> None:
    def names(*files: str) -> list[str]:
        return table_names([tmp_path / file for file in files])

    assert names("a/train.csv", "b/test.csv") == ["train.csv", "test.csv"]
    assert names("x/train/data.csv", "x/test/data.csv", "x/more.csv") == ["train/data.csv", "test/data.csv", "more.csv"]
    assert names("a/1/t.csv", "b/1/t.csv") == ["a/1/t.csv", "b/1/t.csv"] and names("t.csv") == ["t.csv"]


def test_too_many_rejects_fail_with_count_and_first_reasons(write: Writer) -> None:
    validator = RowValidator(read_columns(write("t.csv", "a,b\n1,1\n,1\n3,1\n4,1\n"), ["a", "b"]))
    validator.require(["a"])
    validator.finish(0.25)
    with pytest.raises(InputError, match="1 of 4 rows were refused.*t.csv:3: a is missing"):
        validator.finish(0.2)


def test_a_table_whose_rows_are_all_refused_fails(write: Writer) -> None:
    validator = RowValidator(read_columns(write("t.csv", "a,b\n,1\n"), ["a", "b"]))
    validator.require(["a"])
    with pytest.raises(InputError, match="1 of 1 rows"):
        validator.finish(1.0)


def test_an_empty_column_is_missing_in_every_row(write: Writer) -> None:
    validator = RowValidator(read_columns(write("t.csv", "a,b\n1,\n2, \n"), ["a", "b"]))
    validator.require(["b"])
    assert reasons(validator) == {row: "b is missing or cannot be read" for row in ("t.csv:2", "t.csv:3")}
