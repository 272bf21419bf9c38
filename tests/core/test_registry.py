from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from esmerge.core.errors import BenchError, ConfigError
from esmerge.core.registry import Registry

ENTRY = """
from dataclasses import dataclass
from registered import THINGS

@dataclass(frozen=True)
class Settings:
    size: int = 1

@THINGS.register("{name}", Settings, "{title}")
def make(settings):
    return "{name}" * settings.size
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "registered"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        'from esmerge.core.registry import Registry\nTHINGS = Registry("thing", "registered")\n'
    )
    (folder / "deep" / "__init__.py").touch()
    (folder / "one.py").write_text(ENTRY.format(name="one", title="One"))
    (folder / "deep" / "two.py").write_text(ENTRY.format(name="two", title="Two"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "registered"]:
        del sys.modules[name]


def things() -> Registry:
    import importlib

    return importlib.import_module("registered").THINGS


def test_entries_are_found_by_being_there(package: Path) -> None:
    assert things().names() == ["one", "two"]
    entry = things().get("two")
    assert entry.function(entry.settings(size=2)) == "twotwo" and entry.info == "Two"


def test_an_unknown_name_is_told_what_there_is(package: Path) -> None:
    with pytest.raises(ConfigError, match="unknown thing 'three': expected one of one, two"):
        things().get("three")


def test_a_name_that_is_taken_is_refused(package: Path) -> None:
    (package / "thief.py").write_text(ENTRY.format(name="one", title="Other"))
    with pytest.raises(ValueError, match="thing 'one' is registered by registered.one already"):
        things().names()


def test_a_module_that_is_broken_stays_broken(package: Path) -> None:
    (package / "broken.py").write_text("raise RuntimeError('half written')\n")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="half written"):
            things().names()


def test_settings_must_offer_what_their_kind_offers() -> None:
    class Contract:
        """What every thing's settings offer."""

    @dataclass(frozen=True)
    class Stray:
        size: int = 1

    registry = Registry("thing", "esmerge.merging", settings=Contract)
    with pytest.raises(TypeError, match="thing 'stray': its settings Stray must derive from .*Contract"):
        registry.register("stray", Stray)
    registry.register("kept", Contract)(lambda settings: None)
    assert registry.get("kept").settings is Contract


def test_every_error_is_one_of_ours() -> None:
    from esmerge.core import errors

    exceptions = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(exceptions) > 3 and all(issubclass(error, BenchError) for error in exceptions)


def test_settings_are_dataclasses_with_defaults_kept() -> None:
    @dataclass(frozen=True)
    class Settings:
        size: int = 3

    registry = Registry("thing", "esmerge.merging")

    @registry.register("mine", Settings)
    def mine(settings: Settings) -> int:
        return settings.size

    assert registry.get("mine").function(registry.get("mine").settings()) == 3 and mine(Settings(4)) == 4
