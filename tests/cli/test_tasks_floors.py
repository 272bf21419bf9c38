"""``python -m src.tasks floors``: rows of the floors, and the data cards that hold them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from esmerge.baselines.api import FLOORS
from esmerge.baselines.floors.majority import MajoritySettings, majority
from esmerge.cli.tasks.floors import BEGIN, END, benchmarks_of, card_of
from esmerge.cli.tasks.main import dispatch as main
from esmerge.cli.tasks.options import DEFAULTS, composed_config, load_from_tables
from esmerge.core import paths
from esmerge.core.compose import compose_choice
from esmerge.core.errors import InputError

CARDS = Path(__file__).parents[2] / "benchmarks" / "cards"
ALL = [name for suite in ("all", "panels") for name in compose_choice("suite", suite)["benchmarks"]]
ORDER = ["majority", "group mean", "drug only", "partner only", "logistic regression", "random forest"]
CONFIG = """\
# A toy. Data card: benchmarks/cards/toy.md
name: {name}
title: Toy
family: cross_modal
source: interactions
table: pairs.csv
prompt: {{english: "{{molecule}} {{protein}} Final answer:"}}
labels: {{english: ["no", "yes"]}}
"""


@pytest.fixture
def folder(tmp_path: Path, write: Callable, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Molecules with nitrogen interact, whatever the protein; two benchmarks on one card."""
    write("suite/all.yaml", "name: all\nbenchmarks: [toy, twin]\n")
    write("suite/panels.yaml", "name: panels\nbenchmarks: []\n")
    for name in ("toy", "twin"):
        write(f"benchmark/{name}.yaml", CONFIG.format(name=name))
    rows = [
        f"{'C' * n}{'ON'[n % 2]},{'MKV'[: 1 + n % 3]}AAA,{n % 2},{('train', 'val', 'test')[n % 3]}\n"
        for n in range(1, 91)
    ]
    write("pairs.csv", "SMILES,sequence,label,split\n" + "".join(rows))
    write("cards/toy.md", f"# Toy\n\nBefore.\n\n{BEGIN}\n{END}\n\nAfter.\n")
    monkeypatch.setattr(paths, "CONF", tmp_path)
    return tmp_path


def cells(text: str) -> dict[str, list[str]]:
    """Row name -> its cells, of the one table in a text."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_a_table_has_sizes_and_every_floor_with_its_interval(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["floors", "toy", f"root={folder}", "limit=20"])
    table = cells(capsys.readouterr().out)
    assert table["floor"] == ["toy"] and table["test questions"] == ["20"] and table["training examples"] == ["30"]
    assert {name.replace("_", " ") for name in FLOORS.names()} < set(table)
    assert [name for name in table if name in ORDER] == ORDER
    config = OmegaConf.merge(DEFAULTS, {"root": str(folder), "limit": 20})
    toy = load_from_tables(composed_config("benchmark", "toy", config), config, sampled=True)
    guess = majority(MajoritySettings(), toy, 0)
    right = (guess["label"] == guess["prediction"]).mean()
    assert table["majority"][0].startswith(f"{right:.3f} [")
    value, low, high = (
        float(part) for part in table["drug only"][0].replace("[", "").replace(",", "").rstrip("]").split()
    )
    assert low <= value <= high and value > right and value > float(table["partner only"][0].split()[0])


def test_a_card_is_written_whole_and_twice_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = folder / "cards" / "toy.md"
    argv = ["floors", "toy", f"root={folder}", f"cards={folder / 'cards'}"]
    main(argv)
    first = card.read_text()
    assert first.startswith("# Toy\n\nBefore.\n") and first.endswith(f"{END}\n\nAfter.\n")
    assert cells(first)["floor"] == ["toy", "twin"]  # the other benchmark of the same card
    assert f"\n    python -m src.tasks floors toy twin root={folder} cards={folder / 'cards'}\n" in first
    main(argv)
    assert card.read_text() == first and first.count(BEGIN) == 1


def test_a_card_without_marks_or_a_wrong_folder_is_refused_before_the_work(folder: Path, write: Callable) -> None:
    with pytest.raises(InputError, match=f"no card {folder}/none/toy.md: give the folder of the data cards"):
        main(["floors", "toy", f"cards={folder}/none"])
    write("cards/toy.md", f"{BEGIN} {END} {BEGIN} {END}")
    with pytest.raises(InputError, match="toy.md must hold .* once"):
        main(["floors", "toy", f"cards={folder}/cards"])
    write("benchmark/toy.yaml", "name: toy\n")
    with pytest.raises(InputError, match="toy.yaml names no card"):
        main(["floors", "toy", f"cards={folder}/cards"])


@pytest.mark.parametrize("card", sorted({card_of(name) for name in ALL}))
def test_a_real_card_holds_every_floor_of_its_benchmarks(card: str) -> None:
    text = (CARDS / card).read_text(encoding="utf-8")
    table = cells(text[text.index(BEGIN) : text.index(END)])
    names = benchmarks_of(card)
    assert table["floor"] == names and f"python -m src.tasks floors {' '.join(names)} " in text
    assert all(int(count) > 0 for row in ("test questions", "training examples") for count in table[row])
    assert all("[" in cell for cell in table["majority"] + table["random forest"])
