"""What counts as the code of a result: all that its makers import, and nothing else."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Mapping

import pytest

from esmerge.storage.cache import Cache
from esmerge.storage.code import closure_digest, import_closure

FILES = {
    "plugin/__init__.py": "",
    "plugin/maker.py": '"""Makes."""\nfrom plugin.near import near\n\n\ndef make(x):\n    return near(x)\n',
    "plugin/near.py": "from plugin import far\n\n\ndef near(x):\n    return far.double(x)\n",
    "plugin/far.py": 'def double(x):\n    """Twice."""\n    return 2 * x\n',
    "plugin/apart.py": "from plugin.maker import make\n\nRESULT = make(3)\n",
}
FAR = FILES["plugin/far.py"]


@pytest.fixture
def load(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Write a package ``plugin`` and import its ``maker``; each call is a process of its own for the package."""

    def loaded(changes: Mapping[str, str] = {}):  # noqa: B006
        folder = tmp_path_factory.mktemp("code")
        for name, text in {**FILES, **changes}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for name in [name for name in sys.modules if name.partition(".")[0] == "plugin"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(folder)
        return importlib.import_module("plugin.maker").make

    yield loaded
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugin"]:
        del sys.modules[name]


def test_the_same_code_elsewhere_has_the_same_digest(load) -> None:
    assert closure_digest(load()) == closure_digest(load())


@pytest.mark.parametrize(
    "changes",
    [
        {"plugin/far.py": FAR.replace("2 * x", "3 * x")},
        {"plugin/far.py": FAR.replace("2 * x", "2 * y")},
        {"plugin/far.py": FAR + "double(1)\n"},
        {"plugin/far.py": FAR + 'A = "text"\n'},
        {"plugin/near.py": FILES["plugin/near.py"] + "A = 1\n"},
        {"plugin/maker.py": FILES["plugin/maker.py"] + "A = 1\n"},
        {"plugin/__init__.py": "A = 1\n"},
    ],
)
def test_an_edit_up_to_two_imports_away_counts(load, changes: Mapping[str, str]) -> None:
    assert closure_digest(load(changes)) != closure_digest(load())


@pytest.mark.parametrize(
    "changes",
    [
        {"plugin/far.py": FAR.replace("Twice.", "Two times.")},
        {"plugin/far.py": FAR.replace('    """Twice."""\n', "")},
        {"plugin/far.py": FAR.replace("2 * x", "(2 * x)  # as it says")},
        {"plugin/far.py": '"""Says what."""\n\n# why\n\n' + FAR},
        {"plugin/maker.py": FILES["plugin/maker.py"].replace('"""Makes."""\n', "")},
        {"plugin/far.py": FAR.replace("2 * x", "2 * x  # as it says").replace("def", "\n\n\ndef")},
        {"plugin/apart.py": "RESULT = 4\n"},
        {"plugin/new.py": "import nowhere\n"},
    ],
)
def test_comments_docstrings_and_unrelated_modules_do_not(load, changes: Mapping[str, str]) -> None:
    assert closure_digest(load(changes)) == closure_digest(load())


@pytest.mark.parametrize(
    "text",
    [
        "import plugin.far as other\n",
        "from plugin import far\n",
        "from plugin.far import double\n",
        "from plugin.far import *\n",
        "from . import far\n",
        "from .far import double\n",
        "def make(x):\n    from plugin.far import double\n    return double(x)\n",
        "if False:\n    pass\nelse:\n    import plugin.far\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import plugin.far\n",
    ],
)
def test_every_form_of_import_is_followed(load, text: str) -> None:
    make = load({"plugin/maker.py": f"{text}\n\ndef make(x):\n    return x\n"})
    assert list(import_closure(make)) == ["plugin", "plugin.far", "plugin.maker"]


def test_relative_imports_climb(load) -> None:
    deep = "from ... import far\nfrom ..side import A\n\n\ndef deep(x):\n    return far.double(x)\n"
    files = {"plugin/b/__init__.py": "", "plugin/b/c/__init__.py": "", "plugin/b/c/deep.py": deep}
    load({**files, "plugin/b/side.py": "A = 1\n"})
    function = importlib.import_module("plugin.b.c.deep").deep
    assert list(import_closure(function)) == [
        *("plugin", "plugin.b", "plugin.b.c", "plugin.b.c.deep", "plugin.b.side", "plugin.far")
    ]


def test_what_only_a_type_checker_imports_does_not_count(load) -> None:
    text = "import typing\nif typing.TYPE_CHECKING:\n    import plugin.far\n\n\ndef make(x):\n    return x\n"
    assert list(import_closure(load({"plugin/maker.py": text}))) == ["plugin", "plugin.maker"]


def test_circles_end(load) -> None:
    circle = FAR + "\n\ndef back():\n    from plugin.maker import make\n\n    return make\n"
    first = import_closure(load({"plugin/far.py": circle}))
    assert list(first) == ["plugin", "plugin.far", "plugin.maker", "plugin.near"]
    assert closure_digest(load({"plugin/far.py": circle})) != closure_digest(load())


def test_a_plug_in_counts_with_what_it_imports_of_this_package(load) -> None:
    source = "from esmerge.storage.cache import digest\n" + FILES["plugin/maker.py"]
    modules = import_closure(load({"plugin/maker.py": source}))
    assert {"plugin.far", "esmerge.storage.cache", "esmerge.storage"} < set(modules)
    assert not any(name.split(".")[0] not in ("plugin", "esmerge") for name in modules)


def test_a_data_file_that_a_module_names_counts(load) -> None:
    sources = {"plugin/b/__init__.py": "", "plugin/maker.py": FILES["plugin/maker.py"] + "import plugin.b.reader\n"}
    sources["plugin/b/reader.py"] = 'TABLE, OTHER, HINT = "near.csv", "above.yaml", "write it to absent.csv"\n'
    files = {"plugin/b/data/near.csv": "1", "plugin/data/above.yaml": "2", "plugin/data/apart.csv": "3"}
    first = closure_digest(load({**sources, **files}))
    assert closure_digest(load({**sources, **files, "plugin/data/apart.csv": "4"})) == first
    assert closure_digest(load({**sources, **files, "plugin/data/above.yaml": "4"})) != first
    assert closure_digest(load({**sources, **files, "plugin/b/data/near.csv": "4"})) != first


def test_order_repetition_and_wrapping_do_not_matter(load) -> None:
    make = load()
    digest = closure_digest(make, Cache)
    assert digest == closure_digest(Cache, make, make) == closure_digest(functools.partial(make, 2), Cache)
    assert digest != closure_digest(make)


@pytest.mark.parametrize("function", [print, json.encoder.c_make_encoder])
def test_what_no_python_file_defines_is_refused(function) -> None:
    with pytest.raises(TypeError, match="expected functions or classes"):
        closure_digest(function)


def test_an_edit_while_the_process_runs_does_not_count_since_it_is_not_what_runs(load) -> None:
    make = load()
    before = closure_digest(make)
    import_closure(make)["plugin.far"].write_text("def double(x):\n    return 4 * x\n")
    assert closure_digest(make) == before
