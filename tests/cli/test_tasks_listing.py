"""``python -m src.tasks``: the suite's counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from esmerge.cli.tasks.main import VERBS, dispatch
from esmerge.cli.tasks.main import main as run
from esmerge.core.errors import ConfigError, InputError


def test_every_benchmark_of_the_suite_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "own.yaml").write_text("name: own\nbenchmarks: [human]\n")
    (tmp_path / "dti_human").mkdir()
    pairs = "".join(f"{'C' * n},MKV,{n % 2},{('train', 'val', 'test')[n % 3]}\n" for n in range(1, 31))
    table = tmp_path / "dti_human" / "human_random.csv"
    table.write_text(f"SMILES,sequence,label,split\n{pairs}C1CC,MKV,1,train\n")
    dispatch([f"root={tmp_path}", "suite=own", f"config_dir={tmp_path}"])
    header, row, reject = capsys.readouterr().out.strip().splitlines()
    assert header.split()[:5] == ["benchmark", "train", "validation", "test", "rejects"]
    assert row.split()[:8] == ["human", "10", "(0.500)", "10", "(0.500)", "10", "(0.500)", "1"]
    assert "molecule 0.000, protein 1.000" in row
    assert reject.startswith("human  human_random.csv:32: SMILES 'C1CC'")


def test_an_unknown_option_and_a_missing_root_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown option rot: expected root"):
        dispatch(["rot=x"])
    with pytest.raises(ConfigError, match="root is not set: give the folder that holds the tables, e.g. root="):
        dispatch([])
    with pytest.raises(
        InputError, match=f"root={tmp_path}/none is no folder: give the one that holds cyp/cyp1a2_inhibitor.csv"
    ):
        dispatch([f"root={tmp_path}/none"])
    with pytest.raises(ConfigError, match=f"config_dir={tmp_path}/none is no folder: give the one that holds"):
        dispatch([f"root={tmp_path}", f"config_dir={tmp_path}/none"])
    with pytest.raises(InputError, match="cyp1a2_inhibitor.csv"):
        dispatch([f"root={tmp_path}"])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_what_it_does_not_know(verb: str) -> None:
    with pytest.raises(ConfigError, match="unknown option rot: expected root.*key=value"):
        dispatch([verb, "rot=x"])
    with pytest.raises(ConfigError, match="unknown (benchmark|table) 'humen': expected one of .*human"):
        dispatch([verb, "humen", "root=."])


@pytest.mark.parametrize("verb", ["list", "leakage", "floors"])
def test_verbs_on_benchmarks_take_the_same_words(verb: str) -> None:
    with pytest.raises(ConfigError, match="unknown suite 'none': expected one of all"):
        dispatch([verb, "suite=none", "root=."])
    with pytest.raises(ConfigError, match="limit=0: expected a whole number from 1"):
        dispatch([verb, "limit=0", "root=."])
    with pytest.raises(ConfigError, match="seed='one': expected a whole number from 0"):
        dispatch([verb, "seed=one", "root=."])
    with pytest.raises(ConfigError, match="'drug_cell' is not read from tables: choose one of suite=all"):
        dispatch([verb, "drug_cell", "root=."])
    with pytest.raises(ConfigError, match="split='warm' must be one of published, random"):
        dispatch([verb, "human", "root=.", "split=warm"])
    with pytest.raises(ConfigError, match="benchmark protein_fold has no split to choose: leave split= out"):
        dispatch([verb, "protein_fold", "root=.", "split=random"])


@pytest.mark.parametrize("word", ["help", "-h", "--help"])
def test_help_lists_every_verb_and_option(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    dispatch([word])
    output = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert f"    {name} " in output and all(f"{option}=" in output for option in set(verb.options) - {"benchmark"})


def test_verify_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=f"root={tmp_path}/none is no folder: give the one that the tables were fetched"
    ):
        dispatch(["verify", f"root={tmp_path}/none"])


def test_an_unknown_verb_is_one_line_on_the_command_line() -> None:
    with pytest.raises(
        SystemExit, match="^error: unknown command 'lst': expected list, leakage, floors, fetch, verify"
    ):
        run(["lst"])
