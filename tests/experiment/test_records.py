"""What a sweep folder says of refused rows, over seeds, settings and processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from esmerge.core.prompts import Benchmark, Example, Reject
from esmerge.experiment.records import write_rejects


def refusing(*rows: str, questions: int = 2) -> Benchmark:
    test = tuple(Example(f"q{i}", ("?",), (" no", " yes"), i % 2) for i in range(questions))
    rejects = tuple(Reject(row, f'no SMILES in {row}, "x"') for row in rows)
    return Benchmark("assay", "Assay", "cross_modal", (" no", " yes"), (), (), test, "0", rejects)


def lists(folder: Path) -> dict[tuple[str, str], list[str]]:
    table = pd.read_csv(folder / "rejects" / "assay.csv", dtype=str)
    return {key: list(rows) for key, rows in table.groupby(["seed", "questions"], sort=False)["row"]}


def test_every_list_is_there_whole_and_once(tmp_path: Path) -> None:
    for seed, benchmark in [(0, refusing("a", "b")), (1, refusing("b", "c", "d")), (0, refusing("a", "b"))]:
        write_rejects(tmp_path, [benchmark], seed)
    assert [(seed, rows) for (seed, _), rows in lists(tmp_path).items()] == [("0", ["a", "b"]), ("1", ["b", "c", "d"])]


def test_other_settings_of_one_seed_are_lists_of_their_own(tmp_path: Path) -> None:
    for benchmark in (refusing("a"), refusing("a", "b"), refusing("a", questions=4)):
        write_rejects(tmp_path, [benchmark], 0)
    assert list(lists(tmp_path).values()) == [["a"], ["a", "b"], ["a"]]


def test_a_file_of_rows_and_reasons_alone_stays(tmp_path: Path) -> None:
    (tmp_path / "rejects").mkdir()
    (tmp_path / "rejects" / "assay.csv").write_text("row,reason\nold,bad label\n")
    write_rejects(tmp_path, [refusing("a")], 3)
    table = pd.read_csv(tmp_path / "rejects" / "assay.csv", dtype=str, keep_default_na=False)
    assert list(table["row"]) == ["old", "a"] and list(table["seed"]) == ["", "3"]


def test_nothing_refused_leaves_no_file(tmp_path: Path) -> None:
    write_rejects(tmp_path, [refusing()], 0)
    assert list(tmp_path.iterdir()) == []


def write_of_seed(folder: Path, seed: int) -> None:
    write_rejects(folder, [refusing(*(f"{seed}-{row}" for row in range(50)))], seed)


def test_processes_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(write_of_seed, [tmp_path] * 12, [seed % 6 for seed in range(12)]))
    assert {seed: len(rows) for (seed, _), rows in lists(tmp_path).items()} == {str(seed): 50 for seed in range(6)}
