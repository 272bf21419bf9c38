"""Choices are composed by Hydra: bases, the search path of the job, and one composition per process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from esmerge.core import compose
from esmerge.core.compose import choices, compose_choice, compose_choices
from esmerge.core.errors import ConfigError
from esmerge.core.paths import CONF


@pytest.fixture
def folder(tmp_path: Path, write: Callable[[str, str], Path]) -> str:
    """A folder of one's own with two methods on top of TIES, as a search path names it."""
    write("method/ties_half.yaml", "defaults: [ties]\nname: ties\nkeep: 0.5\n")
    write("method/ties_twice.yaml", "defaults: [ties_half]\nscale: 2.0\nrank: ${.name}\n")
    return f"file://{tmp_path}"


def test_a_choice_is_its_file_on_top_of_its_bases(folder: str) -> None:
    ties = OmegaConf.to_container(OmegaConf.load(CONF / "method" / "ties.yaml"))
    configs = compose_choices("method", ["ties", "ties_half", "ties_twice"], [folder])
    assert configs == {
        "ties": ties,
        "ties_half": {**ties, "keep": 0.5},
        "ties_twice": {**ties, "keep": 0.5, "scale": 2.0, "rank": "ties"},
    }


def test_a_folder_of_ones_own_adds_to_the_shipped_choices_where_it_is_named(folder: str) -> None:
    assert set(choices("method", [folder])) - set(choices("method")) == {"ties_half", "ties_twice"}
    assert set(choices("method")) == {path.stem for path in (CONF / "method").glob("*.yaml")}
    compose_choice("method", "ties_half", [folder])
    with pytest.raises(ConfigError, match="unknown method 'ties_half': expected one of .*average.* ties, tsv"):
        compose_choice("method", "ties_half")


def test_a_set_up_hydra_says_where_configs_come_from(folder: str) -> None:
    with initialize_config_dir(folder.removeprefix("file://"), version_base="1.3"):
        assert choices("method") == ["ties_half", "ties_twice"]
        with pytest.raises(ConfigError, match="method ties_half cannot be composed: .*'method/ties'"):
            compose_choice("method", "ties_half")
    assert "ties" in choices("method")


def test_bases_are_not_offered() -> None:
    bases = {path.stem for path in (CONF / "benchmark" / "base").glob("*.yaml")}
    assert bases and choices("benchmark") == sorted(path.stem for path in (CONF / "benchmark").glob("*.yaml"))
    with pytest.raises(ConfigError, match="unknown benchmark 'base/world': expected one of bindingdb"):
        compose_choice("benchmark", "base/world")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: ${.nothing}\n", "Interpolation key 'nothing' not found"),
        ("name: [x\ntitle: y\n", "while parsing a flow sequence"),
        ("defaults: [nothing]\n", "Could not load 'benchmark/nothing'"),
        ("- name\n", "is a list: expected settings, each as key: value"),
    ],
)
def test_what_cannot_be_composed_is_named_among_the_others(
    text: str, message: str, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    write("benchmark/broken.yaml", text)
    with pytest.raises(ConfigError, match=f"^benchmark broken (cannot be composed: .*)?{message}") as error:
        compose_choices("benchmark", ["drug_cell", "broken"], [f"file://{tmp_path}"])
    assert "\n" not in str(error.value)


def test_a_name_and_a_folder_may_hold_spaces_and_quotes(tmp_path: Path) -> None:
    home = tmp_path / "it's mine"
    (home / "method").mkdir(parents=True)
    (home / "method" / "ties at half.yaml").write_text("defaults: [ties]\nkeep: 0.5\n")
    assert compose_choice("method", "ties at half", [f"file://{home}"])["keep"] == 0.5


def test_a_choice_is_composed_once_and_nobody_else_can_change_it(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compose_choice("method", "ties_half", [folder])
    first["keep"] = 0.9

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("composed again")

    monkeypatch.setattr(compose, "compose", refuse)
    assert compose_choice("method", "ties_half", [folder])["keep"] == 0.5
