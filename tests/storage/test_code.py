"""The digest of code follows imports and nothing else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from esmerge.storage import code
from esmerge.storage.code import closure_digest

FILES = {
    "__init__.py": "",
    "top.py": "from codetoy.middle import half\n\ndef make():\n    return half()\n",
    "middle.py": "from . import bottom\n\ndef half():\n    from codetoy import late\n    return late.TWO\n",
    "bottom.py": "import codetoy.top\nONE = 1\n",
    "late.py": "TWO = 2\n",
    "stranger.py": "THREE = 3\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "codetoy"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "codetoy"]:
        del sys.modules[name]


def digest() -> str:
    """As a new process works it out."""
    for function in (code._source, code._imports, code._digest):
        function.cache_clear()
    importlib.invalidate_caches()
    make: Callable[[], int] = importlib.import_module("codetoy.top").make
    return closure_digest(make)


@pytest.mark.parametrize("name", ["top.py", "middle.py", "bottom.py", "late.py"])
def test_an_edit_anywhere_in_the_closure_changes_it(package: Path, name: str) -> None:
    before = digest()
    with (package / name).open("a") as file:
        file.write("MORE = 4\n")
    assert digest() != before


@pytest.mark.parametrize("text", ["# a comment\n\n\n", None])
def test_comments_layout_and_docstrings_do_not_count(package: Path, text: str | None) -> None:
    before = digest()
    path = package / "middle.py"
    path.write_text('"""Half."""\n' + path.read_text() if text is None else text + path.read_text())
    assert digest() == before


def test_what_is_not_imported_does_not_count(package: Path) -> None:
    before = digest()
    (package / "stranger.py").write_text("THREE = 4\n")
    assert digest() == before


def test_a_data_file_that_a_module_names_counts(package: Path) -> None:
    (package / "data").mkdir()
    (package / "data" / "table.csv").write_text("a\n")
    (package / "late.py").write_text('TABLE = "table.csv"\nTWO = 2\n')
    before = digest()
    (package / "data" / "table.csv").write_text("b\n")
    assert digest() != before


def test_several_functions_count_together() -> None:
    assert closure_digest(closure_digest) != closure_digest(closure_digest, digest)
