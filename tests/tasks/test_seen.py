"""Questions that hold nothing but what the specialists have seen are not asked; all others are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.tasks.test_interactions import GOOD, HEAD, SETTINGS, pairs
from tests.tasks.wording import LABELS, PROMPT

from esmerge.core.errors import InputError
from esmerge.tasks.api import BenchmarkRequest, SuiteRequest
from esmerge.tasks.load import load_benchmark, terms
from esmerge.tasks.seen import marked, other_lists, read_seen, write_seen
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


def test_a_modality_without_a_list_is_new(table: None, ask: Callable[..., BenchmarkRequest], tmp_path: Path) -> None:
    write_seen({"molecule": ["CCO", "CCC", "CCS", "CC(=O)O"]}, tmp_path / "seen")
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
