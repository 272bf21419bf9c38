from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.core.errors import StoreError
from esmerge.storage.files import read_json, read_table, remove_partial, replacing, write_json, write_table, write_text

KILLED = """
import os, sys
from pathlib import Path
from esmerge.storage.files import replacing
with replacing(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    os._exit(9)
"""


def test_a_kill_between_writing_and_renaming_leaves_the_old_file(tmp_path: Path) -> None:
    target = write_text(tmp_path / "record.txt", "whole")
    process = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False, cwd=os.getcwd())
    assert process.returncode == 9
    assert target.read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 2  # what the killed writer left
    remove_partial(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_of_a_living_one(tmp_path: Path) -> None:
    target = tmp_path / "record.txt"
    subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False, cwd=os.getcwd())
    with replacing(target) as living:
        living.write_text("first")
        (tmp_path / ".other.txt.0.partial").touch()
        write_text(target, "second")
        assert {path.name for path in tmp_path.iterdir()} == {"record.txt", living.name, ".other.txt.0.partial"}
    assert target.read_text() == "first"


def test_an_error_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "table.csv"
    with pytest.raises(RuntimeError, match="disk on fire"), replacing(target) as partial:
        partial.write_text("half")
        raise RuntimeError("disk on fire")
    assert list(target.parent.iterdir()) == []


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    assert write_text(tmp_path / "ours", "x").stat().st_mode == plain.stat().st_mode


def test_records_return_and_broken_ones_are_refused(tmp_path: Path) -> None:
    path = write_json(tmp_path / "record.json", {"a": [1, None], "b": "ü"})
    assert read_json(path) == {"a": [1, None], "b": "ü"}
    path.write_text('{"a": ')
    with pytest.raises(StoreError, match="not valid JSON"):
        read_json(path)
    path.write_text("[1]")
    with pytest.raises(StoreError, match="expected a JSON object"):
        read_json(path)


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, st.floats(allow_infinity=False, allow_nan=False)), min_size=1, max_size=5))
def test_tables_return_exactly(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["raw_answer", "score"])
    path = write_table(tmp_path_factory.mktemp("table") / "t.csv", frame)
    table = read_table(path, numbers=("score",))
    assert table["raw_answer"].tolist() == frame["raw_answer"].tolist()
    assert table["score"].tolist() == frame["score"].tolist()


def test_words_that_look_empty_stay_words_and_empty_numbers_are_nan(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prediction": ["NA", "", "None", "null"], "score": [0.1, float("nan"), 1, 0]})
    table = read_table(write_table(tmp_path / "t.csv", frame), numbers=("score",))
    assert table["prediction"].tolist() == ["NA", "", "None", "null"]
    assert table["score"].isna().tolist() == [False, True, False, False]
