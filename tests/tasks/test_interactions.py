from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tasks.wording import LABELS, PROMPT

from esmerge.cli.tasks.leakage_table import leakage_markdown
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark
from esmerge.data.molecules import canonical_smiles, scaffold
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.leakage import measure_leakage
from esmerge.tasks.sources.interactions import InteractionSettings, interactions

SETTINGS = InteractionSettings(prompt=PROMPT, labels=LABELS, table="dti.csv", max_rejects=0.9)
HEAD = "SMILES,sequence,label,split\n"
GOOD = "CCO,MKV,1,train\nCCN,MKV,0,train\nCCO,MXU,0,val\nCCC,MKV,1,test\nCCC,MLL,0,test\n"


def pairs(benchmark: Benchmark, side: str) -> list[tuple[str, str, int]]:
    return [(*(entity.value for entity in e.entities()), e.answer) for e in getattr(benchmark, side)]


def test_the_tables_own_split_is_kept(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("dti.csv", HEAD + GOOD)
    benchmark = interactions(SETTINGS, ask())
    assert pairs(benchmark, "train") == [("CCO", "MKV", 1), ("CCN", "MKV", 0)]
    assert pairs(benchmark, "validation") == [("CCO", "MXU", 0)]
    assert pairs(benchmark, "test") == [("CCC", "MKV", 1), ("CCC", "MLL", 0)]
    assert benchmark.rejects == ()
    groups = [example.group for example in (*benchmark.train, *benchmark.test)]
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_one_file_per_split_reads_the_same(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("dti.csv", HEAD + GOOD)
    expected = interactions(SETTINGS, ask())
    for split in ("train", "val", "test"):
        rows = [line.rsplit(",", 1)[0] for line in GOOD.splitlines() if line.endswith(f",{split}")]
        write(f"random/{split}.csv", "SMILES,sequence,label\n" + "\n".join(rows) + "\n")
    benchmark = interactions(replace(SETTINGS, table="random/{split}.csv"), ask())
    for side in ("train", "validation", "test"):
        assert pairs(benchmark, side) == pairs(expected, side)
    assert benchmark.train[0].id == "train.csv:2" and benchmark.test[1].id == "test.csv:3"


def test_tables_of_one_name_in_several_folders_have_ids_of_their_own(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    for number, split in enumerate(("train", "val", "test")):
        rows = "".join(f"{'C' * (number * 9 + place)}O,MKV,{place % 2}\n" for place in range(1, 10))
        write(f"{split}/data.csv", "SMILES,sequence,label\n" + rows)
    for split in ("published", "random"):
        benchmark = interactions(replace(SETTINGS, table="{split}/data.csv", split=split), ask())
        ids = [example.id for side in (benchmark.train, benchmark.validation, benchmark.test) for example in side]
        assert len(set(ids)) == len(ids) == 27 and set(ids) == {
            f"{folder}/data.csv:{line}" for folder in ("train", "val", "test") for line in range(2, 11)
        }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("C1CC,MKV,1,train", "C1CC"),
        ("CCO,MK*V,1,train", r"'\*' at position 3"),
        ("CCO,m1v,1,train", "'1' at position 2"),
        ("CCO,,1,train", "sequence is missing"),
        (",MKV,1,train", "SMILES is missing"),
        ("CCS,MKV,,train", "label is missing"),
        ("CCS,MKV,yes,train", "label 'yes' is not one of 0, 1"),
        ("CCS,MKV,1,holdout", "split 'holdout' is not one of"),
        ("CCS,MKV,1,", "side is missing"),
        ("OCC,MKV,1,train", "as in dti.csv:2"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(
    row: str, reason: str, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    write("dti.csv", HEAD + GOOD + row + "\n")
    (reject,) = interactions(SETTINGS, ask()).rejects
    assert reject.row == "dti.csv:7"
    assert re.search(reason, reject.reason)


def test_opposite_labels_refuse_both_rows(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("dti.csv", HEAD + GOOD + "OCC,MKV,0,test\n")
    benchmark = interactions(SETTINGS, ask())
    assert {reject.row for reject in benchmark.rejects} == {"dti.csv:2", "dti.csv:7"}
    assert ("CCO", "MKV") not in {pair[:2] for side in ("train", "test") for pair in pairs(benchmark, side)}


def test_a_pair_on_two_sides_stays_in_test(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("dti.csv", HEAD + GOOD + "OCC,MKV,1,test\n")
    benchmark = interactions(SETTINGS, ask())
    assert [reject.row for reject in benchmark.rejects] == ["dti.csv:2"]
    assert ("CCO", "MKV", 1) in pairs(benchmark, "test")
    assert ("CCO", "MKV", 1) not in pairs(benchmark, "train")


def many(split: str = "train") -> str:
    """Chains and rings with proteins, 30 by 30; the table puts them all on one side."""
    molecules = [f"{'C' * n}O" for n in range(1, 21)] + [f"CC1{'C' * n}1" for n in range(3, 8)]
    molecules += [f"CCC1{'C' * n}1" for n in range(3, 8)]
    rows = [(m, "M" + "K" * p, (len(m) + p) % 2) for m in molecules for p in range(30)]
    return HEAD + "".join(f"{molecule},{protein},{label},{split}\n" for molecule, protein, label in rows)


@pytest.mark.parametrize(
    ("split", "key", "count"),
    [
        ("random", lambda e: tuple(entity.value for entity in e.entities()), 900),
        ("cold_drug", lambda e: e.entities("molecule")[0].value, 30),
        ("cold_target", lambda e: e.entities("protein")[0].value, 30),
        ("scaffold", lambda e: scaffold(e.entities("molecule")[0].value), 25),
    ],
)
def test_other_splits_hold_out_what_they_say(
    split: str, key: Callable, count: int, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    write("dti.csv", many())
    settings = replace(SETTINGS, split=split, train_limit=None, validation_limit=None)
    benchmark = interactions(settings, ask())
    sides = [{key(example) for example in side} for side in (benchmark.train, benchmark.validation, benchmark.test)]
    assert all(sides) and sum(map(len, sides)) == len(set.union(*sides)) == count
    assert benchmark.rejects == ()
    assert len(benchmark.train) + len(benchmark.validation) + len(benchmark.test) == 900


def test_other_splits_need_no_split_column(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("dti.csv", many("nowhere"))
    settings = replace(SETTINGS, split="random")
    expected = interactions(settings, ask())
    write("dti.csv", "\n".join(line.rsplit(",", 1)[0] for line in many().splitlines()) + "\n")
    benchmark = interactions(settings, ask())
    assert (benchmark.train, benchmark.test) == (expected.train, expected.test)
    with pytest.raises(InputError, match="no column split"):
        interactions(SETTINGS, ask())
    columns = {"molecule": "SMILES", "protein": "sequence", "label": "label"}
    assert interactions(replace(settings, columns=columns), ask()).test == expected.test
    with pytest.raises(ConfigError, match="split=published needs benchmark.columns.split.*choose one of random"):
        replace(SETTINGS, columns=columns)


def test_a_split_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="split='cold_cell' must be one of published, random, cold_drug, cold_target"):
        replace(SETTINGS, split="cold_cell")


def test_other_names_are_mapped(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    write("dti.csv", "Drug,Target,Y,part\nCCO,MKV,1.0,fit\nCCN,MKV,0.0,pick\nCC,MKV,0,judge\n")
    columns = {"molecule": "Drug", "protein": "Target", "label": "Y", "split": "part"}
    splits = {"train": "fit", "validation": "pick", "test": "judge"}
    benchmark = interactions(replace(SETTINGS, columns=columns, splits=splits), ask())
    assert pairs(benchmark, "train") == [("CCO", "MKV", 1)] and pairs(benchmark, "test") == [("CC", "MKV", 0)]


def test_a_split_without_a_name_and_a_missing_file_are_refused(ask: Callable[..., BenchmarkRequest]) -> None:
    with pytest.raises(ConfigError, match="benchmark.splits"):
        replace(SETTINGS, splits={"train": "train", "test": "test"})
    with pytest.raises(InputError, match="dti.csv"):
        interactions(SETTINGS, ask())


FORMS = ("CCO", "[CH3:1][CH2:2][OH:3]", "CC[O-].[Na+]", "[13CH3]CO")


@pytest.mark.parametrize(("rule", "count"), [(None, 3), ("exact", 3), ("parent", 1), ("connectivity", 1)])
def test_forms_of_one_molecule_are_duplicates_by_the_rule(
    rule: str | None, count: int, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    rows = [f"{form},{sequence},1,train" for form, sequence in zip(FORMS, ("MKV", "mkv", "M-KV*", "MKV"), strict=True)]
    write("dti.csv", HEAD + "\n".join([*rows, "CCC,MKV,0,train", "CCN,MLL,0,test", "CCC,MLL,1,test"]) + "\n")
    benchmark = interactions(replace(SETTINGS, identity=rule), ask())
    assert len(benchmark.train) == count + 1
    assert [reject.row for reject in benchmark.rejects] == ["dti.csv:3", "dti.csv:4", "dti.csv:5"][: 4 - count]
    assert "same SMILES and sequence and label as in dti.csv:2" in benchmark.rejects[0].reason


def test_a_cold_split_holds_out_every_form_of_a_molecule(write: Callable, ask: Callable[..., BenchmarkRequest]) -> None:
    rows = [
        f"{form},MKV,{length % 2},train"
        for length in range(2, 42)
        for form in (f"{'C' * length}N", f"{'C' * length}[NH3+].[Cl-]", f"[CH3:1]{'C' * (length - 1)}[15NH2]")
    ]
    write("dti.csv", HEAD + "\n".join(rows) + "\n")
    report = {
        rule: measure_leakage(interactions(replace(SETTINGS, split="cold_drug", identity=rule), ask()))
        for rule in (None, "exact")
    }
    parents = {rule: leakage.merged[0] for rule, leakage in report.items()}
    assert (parents[None].kind, parents[None].rule, parents[None].shared) == ("molecule", "parent", 0)
    assert parents["exact"].shared > 5 and parents["exact"].any_share > 0.3
    assert all(canonical_smiles(a) != canonical_smiles(b) for a, b in parents["exact"].pairs)
    table = leakage_markdown([report["exact"]])
    assert "| toy       | molecule       | parent       |" in table and " is ".join(parents["exact"].pairs[0]) in table


def test_an_unknown_rule_of_identity_is_refused() -> None:
    with pytest.raises(ConfigError, match="benchmark.identity='inchikey' must be one of exact, parent, connectivity"):
        replace(SETTINGS, identity="inchikey")


def test_a_table_of_another_system_is_the_same_benchmark(
    tmp_path: Path, write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    write("dti.csv", HEAD + GOOD)
    plain = interactions(SETTINGS, ask())
    for encoding, separator, end in (("utf-8-sig", ",", "\r\n"), ("utf-16", ";", "\r\n"), ("utf-8", "\t", "\r")):
        text = (HEAD + GOOD).replace(",", separator).replace("\n", end)
        (tmp_path / "dti.csv").write_bytes(text.encode(encoding))
        other = interactions(SETTINGS, ask())
        assert replace(other, checksum=plain.checksum) == plain


def test_a_wording_that_is_not_the_readers_own_is_pointed_out(
    write: Callable, ask: Callable[..., BenchmarkRequest]
) -> None:
    write("dti.csv", HEAD + GOOD)
    english = replace(SETTINGS, prompt={"english": PROMPT["english"]}, labels={"english": LABELS["english"]})
    with pytest.warns(
        UserWarning, match=r"'toy' has no brief wording, .* in english, with the answers .*prompt\.brief"
    ):
        benchmark = interactions(english, ask(language="brief"))
    assert benchmark.labels == tuple(LABELS["english"])
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        interactions(english, ask())
    assert not [record for record in records if "wording" in str(record.message)]
