"""``benchmarks/own_table.md`` says what works: its files are written and its commands run, on a larger table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.test_sweep import in_process, results

from esmerge.cli.tasks.main import dispatch

PAGE = (Path(__file__).parents[1] / "benchmarks" / "own_table.md").read_text(encoding="utf-8")
BLOCKS = {language: re.findall(rf"```{language}\n(.*?)```", PAGE, re.S) for language in ("csv", "yaml", "bash")}
ROWS = 240


@pytest.fixture
def folder(tmp_path: Path, write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder: the page's config, and a table with the page's columns."""
    ((table, *_), (config, *_)) = (BLOCKS[language] for language in ("csv", "yaml"))
    molecule, protein, label = table.splitlines()[0].split(",")
    values = yaml.safe_load(config)["label_values"]
    rows = [f"{'C' * (1 + i % 60)}O,{'MKTAYIAKQR' * (1 + i // 60)},{values[(i + i // 60) % 2]}" for i in range(ROWS)]
    write("tables/assay.csv", "\n".join([f"{molecule},{protein},{label}", *rows, f"no molecule,MKT,{values[0]}", ""]))
    write("mine/benchmark/assay.yaml", config)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:benchmark 'assay' has few")
def test_the_page_works(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    floors, tasks = BLOCKS["bash"][0].strip().splitlines()
    words = [word for word in shlex.split(floors)[3:] if word != "-m"]
    overrides = (
        "tracking=disabled",
        "compute.resamples=20",
        f"cache={folder}/cache",
        f"hydra.sweep.dir={folder}/sweep",
    )
    assert in_process(monkeypatch, "-m", *words, *overrides) == 0
    rows = results(folder / "sweep").query("metric == 'accuracy'").set_index("method")
    assert set(rows.index) == {"majority", "drug_only", "partner_only", "random_forest"}
    assert set(rows["benchmark"]) == {"assay"}
    assert len(pd.read_csv(folder / "sweep" / "rejects" / "assay.csv")) == 1
    screen = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert "Rows that were refused, so that nobody was asked: Our assay 1; rejects/ says why." in screen
    dispatch(shlex.split(tasks, comments=True)[3:])
    assert "assay" in capsys.readouterr().out


def test_every_base_that_the_page_names_is_there() -> None:
    bases = re.findall(r"^\| [^|]+ \| ([^|]+) \|", PAGE, re.M)[2:]
    names = [name for cell in bases for name in re.findall(r"`(\w+)`", cell)]
    conf = Path(__file__).parents[1] / "conf" / "benchmark" / "base"
    assert len(names) >= 5 and all((conf / f"{name}.yaml").is_file() for name in names)
