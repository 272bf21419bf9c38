"""Questions that hold nothing but what the specialists have seen are not asked; all others are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.tasks.test_interactions import GOOD, HEAD, SETTINGS, pairs
from tests.tasks.wording import LABELS, PROMPT

from esmerge.core.errors import InputError
from esmerge.tasks.api import BenchmarkRequest, SuiteRequest
from esmerge.tasks.load import load_benchmark, terms
from esmerge.tasks.seen import marked, other_lists, read_seen, unseen, write_seen
from esmerge.tasks.sources.cyp_panel import CypPanelSettings, cyp_panel
from esmerge.tasks.sources.interactions import interactions

MORE = "CCS,MLL,0,val\nCCS,MKV,1,val\n[Na+].CC([O-])=O,MKV,1,test\n"


@pytest.fixture
def table(write: Callable) -> None:
    write("dti.csv", HEAD + GOOD + MORE)


def test_a_question_is_left_out_if_nothing_of_it_is_new(
    table: None, ask: Callable[..., BenchmarkRequest], tmp_path: Path
) -> None:
    write_seen({"molecule": ["CCO", "C(C)C", "SCC", "CC(=O)O"], "protein": ["MKV", "MXU"]}, tmp_path / "seen")
    benchmark = interactions(SETTINGS, ask(seen=str(tmp_path / "seen")))
    assert pairs(benchmark, "train") == [("CCO", "MKV", 1), ("CCN", "MKV", 0)], "what is learnt from stays"
    assert pairs(benchmark, "validation") == [("CCS", "MLL", 0)]
    assert pairs(benchmark, "test") == [("CCC", "MLL", 0)], "propane and the acid's salt are known with MKV"
    assert {reject.row for reject in benchmark.rejects} == {"dti.csv:4", "dti.csv:5", "dti.csv:8", "dti.csv:9"}
    assert all("benchmark.seen" in reject.reason for reject in benchmark.rejects)


@pytest.mark.parametrize("proteins", [["mkv", "mxu"], ["MKV*", "MXU*"], [" M-K V", "MX.U"]])
def test_a_list_may_have_any_form_that_a_table_may_have(
    table: None, ask: Callable[..., BenchmarkRequest], write: Callable, proteins: list[str]
) -> None:
    write("seen/protein.txt", "\r\n\n".join(proteins))
    write("seen/molecule.txt", "OCC\nC(C)C\n[CH3:1]CS\n[Na+].CC([O-])=O\n")
    benchmark = interactions(SETTINGS, ask(seen=str(write("seen/cell.txt", "").parent)))
    assert pairs(benchmark, "validation") == [("CCS", "MLL", 0)] and pairs(benchmark, "test") == [("CCC", "MLL", 0)]


@pytest.mark.parametrize(("name", "nearest"), [("molecules", "molecule"), ("Molecule", "molecule"), ("cells", "cell")])
def test_a_list_that_is_named_after_no_modality_is_refused(
    table: None, ask: Callable[..., BenchmarkRequest], write: Callable, name: str, nearest: str
) -> None:
    folder = write(f"seen/{name}.txt", "CCO\n").parent
    message = rf"{name}\.txt is named after no modality, those are molecule, protein, cell.* mean {nearest}\.txt\?"
    with pytest.raises(InputError, match=message):
        interactions(SETTINGS, ask(seen=str(folder)))
    with pytest.raises(InputError, match=message):
        read_seen(str(folder), "toy")
    if name == "cells":
        assert read_seen(str(folder), "toy", ["molecule", "cells"]) == {"cells": ["CCO"]}, "a modality of its own"


@pytest.mark.parametrize(
    ("file", "text", "line", "reason"),
    [
        ("molecule.txt", "CCO\n\nCCC\tpropane\n", 3, "is not a valid molecule"),
        ("molecule.txt", "SMILES\nCCO\n", 1, "'SMILES' is not a valid molecule"),
        ("molecule.txt", "CCO,ethanol\n", 1, "is not a valid molecule"),
        ("protein.txt", "MKV\n>sp|P1\nMKV\n", 2, "has '>' at position 1"),
        ("protein.txt", "MKV\nM1V\n", 2, "has '1' at position 2"),
        ("cell.txt", "TP53 EGFR\nTP53 1-Sep\n", 2, "gene list has '1-Sep' at position 2"),
    ],
)
def test_a_line_that_is_no_entity_is_refused_by_file_and_number(
    write: Callable, file: str, text: str, line: int, reason: str
) -> None:
    path = write(f"seen/{file}", text)
    with pytest.raises(InputError, match=f"'toy': {path}, line {line}: .*{reason}.* Expected one {path.stem} a line"):
        read_seen(str(path.parent), "toy")


def test_a_cell_is_listed_if_its_genes_are_the_first_of_a_list(write: Callable, tmp_path: Path) -> None:
    write("seen/cell.txt", "TP53  EGFR CD4 ALB\nGFAP\n")
    frame = pd.DataFrame(
        {"cell": ["TP53 EGFR", "TP53 EGFR CD4 ALB", "EGFR TP53", "GFAP TP53", "TP53 EGFR CD4", "TP53 CD4"]}
    )
    frame = frame.assign(side="test", row=frame["cell"])
    request = BenchmarkRequest("toy", "english", 0, seen=str(tmp_path / "seen"))
    remaining, rejects = unseen(frame, {"cell": "cell"}, request)
    assert list(remaining["cell"]) == ["EGFR TP53", "GFAP TP53", "TP53 CD4"]
    assert [reject.row for reject in rejects] == ["TP53 EGFR", "TP53 EGFR CD4 ALB", "TP53 EGFR CD4"]


def test_what_no_question_can_hold_is_not_listed(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 3 entities under molecule are not listed, .* e.g. 'C1CC'"):
        write_seen({"molecule": ["CCO", "C1CC", "CCN"], "other": ["anything at all"]}, tmp_path / "seen")
    lists = read_seen(str(tmp_path / "seen"), "toy", ["other"])
    assert lists == {"molecule": ["CCO", "CCN"], "other": ["anything at all"]}


def test_a_modality_without_a_list_is_new_and_named(
    table: None, ask: Callable[..., BenchmarkRequest], tmp_path: Path
) -> None:
    write_seen({"molecule": ["CCO", "CCC", "CCS", "CC(=O)O"]}, tmp_path / "seen")
    with pytest.warns(
        UserWarning, match=r"'toy': benchmark\.seen=.* has no protein\.txt, so each protein counts as new"
    ):
        benchmark = interactions(SETTINGS, ask(seen=str(tmp_path / "seen")))
    assert not benchmark.rejects and len(benchmark.test) == 3


def test_nothing_left_to_ask_is_an_error(table: None, ask: Callable[..., BenchmarkRequest], tmp_path: Path) -> None:
    seen = {"molecule": ["CCO", "CCC", "CCS", "CC(=O)O"], "protein": ["MKV", "MXU", "MLL"]}
    write_seen(seen, tmp_path / "seen")
    with pytest.raises(InputError, match=r"benchmark\.seen=.* lists all entities of all 6 questions"):
        interactions(SETTINGS, ask(seen=str(tmp_path / "seen")))


def test_a_panel_is_matched_among_what_is_asked(
    write: Callable, ask: Callable[..., BenchmarkRequest], tmp_path: Path
) -> None:
    rng, enzymes = np.random.default_rng(0), ("CYP1A2", "CYP2C9")
    chains = ["C" * length + tail for length in range(1, 41) for tail in ("O", "N", "F")]
    for enzyme in enzymes:
        write(f"{enzyme}.csv", "SMILES,label\n" + "".join(f"{m},{int(rng.random() < 0.5)}\n" for m in chains))
    settings = CypPanelSettings(
        prompt=PROMPT, labels=LABELS, tables={name: f"{name}.csv" for name in enzymes}, train_limit=None
    )
    before = cyp_panel(settings, ask())
    seen_molecules = {entity.value for example in before.test[:6] for entity in example.entities("molecule")}
    proteins = {entity.value for example in before.train for entity in example.entities("protein")}
    write_seen({"molecule": seen_molecules, "protein": proteins}, tmp_path / "seen")
    after = cyp_panel(settings, ask(seen=str(tmp_path / "seen")))
    molecules = [example.entities()[0].value for example in after.test]
    assert molecules and not set(molecules) & seen_molecules, "neither question of a pair"
    assert all(molecules.count(molecule) == 2 for molecule in molecules), "and no pair is torn"
    assert cyp_panel(replace(settings, perceive="none"), ask(seen=str(tmp_path / "seen"), language="english")).test


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match=r"benchmark\.seen=.* is no folder with files MODALITY\.txt"):
            read_seen(str(folder), "toy")
    with pytest.raises(InputError, match="expected one line"):
        write_seen({"cell": ["CD3D\nCD8A"]}, tmp_path / "seen")


def test_lists_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_seen({"molecule": ["CCO", "CCN", "CCO"], "cell": ["CD3D CD8A"]}, tmp_path / "seen")
    assert read_seen(str(tmp_path / "seen"), "toy") == {"molecule": ["CCO", "CCN"], "cell": ["CD3D CD8A"]}


def test_the_checksum_tells_other_lists(table: None, ask: Callable[..., BenchmarkRequest], tmp_path: Path) -> None:
    write_seen({"molecule": ["CCO"]}, tmp_path / "one")
    write_seen({"molecule": ["CCN"]}, tmp_path / "two")
    bare = interactions(SETTINGS, ask())
    sums = {marked(bare, ask(seen=seen)).checksum for seen in (None, str(tmp_path / "one"), str(tmp_path / "two"))}
    assert len(sums) == 3 and bare.checksum in sums


def test_a_changed_list_is_read_again(write: Callable, tmp_path: Path) -> None:
    write("dti_human/human_random.csv", HEAD + GOOD)
    request = SuiteRequest(("human",), {"root": str(tmp_path), "seen": str(tmp_path / "seen")}, "english", 0)
    write_seen({"molecule": ["CCCC"], "protein": ["MLL"]}, tmp_path / "seen")
    before = load_benchmark(request, "human")
    write_seen({"molecule": ["CCC"], "protein": ["MLL"]}, tmp_path / "seen")
    after = load_benchmark(request, "human")
    assert (len(before.test), len(after.test)) == (2, 1)
    assert terms(request, "human")["seen"] == str(tmp_path / "seen")


def test_lists_that_lay_there_before_are_named(tmp_path: Path) -> None:
    write_seen({"molecule": ["CCO"], "cell": ["CD3D CD8A"]}, tmp_path)
    written = write_seen({"molecule": ["CCN"]}, tmp_path)
    assert other_lists(tmp_path, written) == [tmp_path / "cell.txt"]
    assert not other_lists(tmp_path, [*written, tmp_path / "cell.txt"])
