"""What is read of a table is compared with what its file holds: lines, columns, quotes, cut ends, separators."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from esmerge.core.errors import InputError
from esmerge.data.records import read_records
from esmerge.data.tables import RowValidator, read_columns

Writer = Callable[[str, str], Path]


def validated(path: Path, *columns: str) -> RowValidator:
    return RowValidator(read_columns(path, columns))


def refused(validator: RowValidator) -> dict[str, str]:
    return {reject.row: reject.reason for reject in validator.rejects}


@pytest.mark.parametrize("closing", ['"Drug 299', 'Drug "299', 'Drug 299"'])
def test_a_stray_quote_costs_its_own_row_only(write: Writer, closing: str) -> None:
    names = [f"Drug {number}" for number in range(600)]
    names[80], names[299] = '"Drug 80', closing
    text = "id,name,label\n" + "".join(f"{number},{name},1\n" for number, name in enumerate(names))
    validator = validated(write("t.csv", text), "id", "name")
    bad = {80, 299} if closing.startswith('"') else {80}
    assert set(refused(validator)) == {f"t.csv:{number + 2}" for number in bad}
    assert all("a quote opens a field" in reason for reason in refused(validator).values())
    assert set(map(int, validator.frame["id"])) == set(range(600)) - bad
    assert [int(row.removeprefix("t.csv:")) for row in validator.frame["row"]] == [
        int(number) + 2 for number in validator.frame["id"]
    ]


@pytest.mark.parametrize("closing", [41, 42, 45])
@pytest.mark.parametrize("column", [0, 1])
def test_two_stray_quotes_swallow_no_row_between_fields_in_quotes(write: Writer, column: int, closing: int) -> None:
    rows = [[f"{number}", f"M{number}K", f'"{number},{number}"' if number % 2 else "7"] for number in range(200)]
    rows[40][column], rows[closing][column] = '"' + rows[40][column], rows[closing][column] + '"'
    validator = validated(write("t.csv", "\n".join(["a,b,c", *map(",".join, rows)])), "a", "b", "c")
    lines = [int(row.removeprefix("t.csv:")) for row in [*refused(validator), *validator.frame["row"]]]
    assert sorted(lines) == list(range(2, 202)), "each line is a row or a reject"
    assert set(refused(validator)) == {"t.csv:42"} and "a quote opens a field" in refused(validator)["t.csv:42"]


def test_a_line_break_in_a_quoted_field_is_read_and_counted(write: Writer) -> None:
    text = 'name,SMILES\n"two\nlines","CCO"\nplain,\n"a\r\n\r\nb",CC\nlast,\n'
    validator = validated(write("t.csv", text), "name", "SMILES")
    validator.require(["SMILES"])
    assert list(zip(validator.frame["name"], validator.frame["row"], strict=True)) == [
        ("two\nlines", "t.csv:2"),
        ("a\r\n\r\nb", "t.csv:5"),
    ]
    assert set(refused(validator)) == {"t.csv:4", "t.csv:8"}


def test_short_and_long_rows_are_refused_with_their_numbers(write: Writer) -> None:
    lines = [f"{number},x,1" for number in range(100)]
    lines[10], lines[20], lines[99] = "10,x", "20,x,y,1", "99,x"
    validator = validated(write("t.csv", "\n".join(["id,name,label", *lines])), "id")
    assert refused(validator) == {
        "t.csv:12": "has 2 fields, but the header 3: is the row cut off?",
        "t.csv:22": "has 4 fields, but the header 3: quote fields with ','",
        "t.csv:101": "has 2 fields, but the header 3: is the row cut off?",
    }


def test_blank_lines_are_rows_except_at_the_end(write: Writer) -> None:
    validator = validated(write("t.csv", "a,b\n1,2\n\n3,4\n\n \n\n"), "a")
    validator.require(["a"])
    assert refused(validator) == {"t.csv:3": "a is missing or cannot be read"}
    assert list(validator.frame["a"]) == ["1", "3"]


@pytest.mark.parametrize(
    ("name", "separator"), [("t.csv", ","), ("t.tsv", "\t"), ("t.csv", ";"), ("t.csv", "\t"), ("t.txt", "|")]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_form_of_a_table_is_the_same_rows(
    name: str, separator: str, pack: Callable[[bytes], bytes], encoding: str, end: str, tmp_path: Path
) -> None:
    path = tmp_path / (name if pack is bytes else f"{name}.gz")
    lines = ["SMILES , name", "CCO,β-blocker", "CC,x"]
    path.write_bytes(pack(end.join(line.replace(",", separator) for line in lines).encode(encoding)))
    table = read_columns(path, ["SMILES", "name"])
    assert list(zip(table["SMILES"], table["name"], table["row"], strict=True)) == [
        ("CCO", "β-blocker", f"{path.name}:2"),
        ("CC", "x", f"{path.name}:3"),
    ]


def test_excels_line_about_the_separator_is_followed(write: Writer) -> None:
    table = read_columns(write("t.csv", "sep=;\na;b\n1;2\n"), ["a"], ["b"])
    assert (table["a"][0], table["b"][0], table["row"][0]) == ("1", 2.0, "t.csv:3")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-9])
    with pytest.raises(InputError, match=f"{path} is a gzip file that cannot be unpacked"):
        read_columns(path, ["a"])


def test_a_column_that_stands_twice_is_refused(write: Writer) -> None:
    with pytest.raises(InputError, match="has the column SMILES 2 times"):
        read_columns(write("t.csv", "SMILES,SMILES,b\nC,CC,1\n"), ["SMILES"])


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999", "2,5", "1 000", "#N/A"])
def test_what_is_no_finite_number_is_null(write: Writer, text: str) -> None:
    assert read_columns(write("t.tsv", f"a\tb\nx\t{text}\n"), ["a"], ["b"])["b"][:] == [None]


def test_a_malformed_row_of_pairs_is_refused_once_and_by_its_line(write: Writer) -> None:
    from esmerge.core.prompts import Reject
    from esmerge.data.joining import read_names_of_pairs
    from esmerge.data.molecules import canonical_smiles

    rows = [f"d{number},{'C' * (number + 1)}O,e{number},{'C' * (number + 1)}N" for number in range(30)]
    rows[7] = '"' + rows[7]
    path = write("t.csv", "\n".join(["a,x,b,y", *rows]))
    names = read_names_of_pairs(path, [("a", "x"), ("b", "y")], canonical_smiles, 0.05)
    assert len(names.values) == 58 and not names.rejects
    reason = "a quote opens a field and is not closed as one: double it, or remove it"
    assert validated(path, "a", "b").rejects == [Reject("t.csv:9", reason)]


FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=6)


def has_rows_inside(row: tuple[str, ...]) -> bool:
    """Whether fields hold both separators and line breaks, so that a line of the row may look like a row."""
    text = "".join(row)
    return "," in text and ("\n" in text or "\r" in text)


def line_breaks(field: str) -> int:
    return field.replace("\r\n", "\n").replace("\r", "\n").count("\n")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_what_a_writer_quotes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], end: str
) -> None:
    assume(not any(map(has_rows_inside, rows)))
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([("a", "b", "c"), *rows])
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(buffer.getvalue().encode())
    records = read_records(path, ["a", "b", "c"]).rows
    heights = [sum(map(line_breaks, row)) + 1 for row in rows]
    assert [row.fields for row in records] == rows
    assert [row.line for row in records] == list(accumulate(heights[:-1], initial=2))
